"""Writes one product to a disk cache as a stream: a temporary file, and room for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from orchestrator.cache.disk.file_names import Product, place
from orchestrator.cache.disk.files import allocated
from orchestrator.cache.disk.index_thread import IndexThread
from orchestrator.cache.disk.ledger import room_for
from orchestrator.cache.disk.publisher import Publication
from orchestrator.errors import NoRoom
from orchestrator.exception_text import describe_error

log = logging.getLogger(__name__)


class ProductWriter:
    """A product that the caller writes to `path`, within the room claimed for it."""

    def __init__(self, thread: IndexThread, product: Product, need: int) -> None:
        self.path = thread.writer.ledger.tree.temp_path(product.extension)
        self._thread = thread
        self._place = place(product)
        self._is_pinned = product.pinned
        self._need = need
        self._is_open = True

    async def grow(self, size: int) -> None:
        """Make sure of room for `size` bytes in total. Raises NoRoom."""
        await self._thread.run(partial(self._claim, room_for(size)))

    async def publish(self) -> Path:
        """Let readers find the file; returns its path. Raises NoRoom; then nothing is stored."""
        return await self._thread.run(self._publish)

    def abort(self) -> None:
        """Remove the file, unless it was published. Runs on the index thread."""
        if self._is_open:
            self._is_open = False
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            self._thread.writer.ledger.unclaim(self._need)

    def _claim(self, need: int) -> None:
        if need > self._need:
            if not self._thread.writer.claim(need - self._need):
                raise NoRoom("There is no room for this in the cache.")
            self._need = need

    def _publish(self) -> Path:
        writer = self._thread.writer
        try:
            self._claim(room_for(allocated(self.path.stat())))
        except OSError as error:
            raise NoRoom("The file to be stored is missing.") from error
        self._is_open = False
        publication = Publication(self._place, self.path, self._need, self._is_pinned)
        if not writer.publisher.publish([publication]):
            raise NoRoom("The cache cannot be written now.")
        writer.stats.puts += 1
        return writer.ledger.tree.root / self._place.path


async def write_chunks(path: Path, chunks: AsyncIterator[bytes]) -> None:
    """Write the chunks to a file, in threads. Raises NoRoom if the disk refuses them,
    and what the chunks raise.
    """
    with _disk_errors_as_no_room():
        file = await asyncio.to_thread(path.open, "wb")
    try:
        async for chunk in chunks:
            with _disk_errors_as_no_room():
                await asyncio.to_thread(file.write, chunk)
        with _disk_errors_as_no_room():  # a network file system reports write errors only on close
            await asyncio.to_thread(file.close)
    finally:
        with suppress(OSError):
            await asyncio.to_thread(file.close)


@contextmanager
def _disk_errors_as_no_room() -> Iterator[None]:
    """Only for disk operations: an error while the chunks are read must stay what it is."""
    try:
        yield
    except OSError as error:
        log.warning("source not written", extra={"error": describe_error(error)})
        raise NoRoom("The copy of the source cannot be written.") from error
