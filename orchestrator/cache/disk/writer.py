"""One product on its way into a disk cache: a file of its own to be written, and room for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path

from orchestrator.cache.disk.file_names import Product, place
from orchestrator.cache.disk.files import allocated
from orchestrator.cache.disk.index_thread import Worker
from orchestrator.cache.disk.ledger import Publication, room_for
from orchestrator.errors import NoRoom


class Writing:
    """A product being written to `path`, a file of its own, within room set apart for it."""

    def __init__(self, worker: Worker, product: Product, need: int) -> None:
        self.path = worker.ledger.tree.temp_path(product.extension)
        self._worker = worker
        self._where = place(product)
        self._pinned = product.pinned
        self._need = need
        self._open = True

    async def grow(self, size: int) -> None:
        """Make sure of room for `size` bytes in all. Raises NoRoom."""
        await asyncio.wrap_future(self._worker.call(partial(self._reserve, room_for(size))))

    async def publish(self) -> Path:
        """Let readers find the file from now on; returns where. Raises NoRoom: nothing is kept."""
        return await asyncio.wrap_future(self._worker.call(self._publish))

    def abort(self) -> None:
        """On the worker's thread: leave nothing, unless it was published."""
        if self._open:
            self._open = False
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            self._worker.ledger.unclaim(self._need)

    def _reserve(self, need: int) -> None:
        if need > self._need:
            if not self._worker.claim(need - self._need):
                raise NoRoom("There is no room for this in the cache.")
            self._need = need

    def _publish(self) -> Path:
        ledger = self._worker.ledger
        try:
            self._reserve(room_for(allocated(self.path.stat())))
        except OSError as error:
            raise NoRoom("The file to be kept is gone.") from error
        self._open = False
        if not ledger.settle([Publication(self._where, self.path, self._need, self._pinned)]):
            raise NoRoom("The cache cannot be written now.")
        self._worker.counts.puts += 1
        return ledger.tree.root / self._where.path
