"""Sources read whole into memory, for those that are not to be on disk, or find no room there.

Each is a file without a name (memfd), so that the imaging workers open it like any other and
nothing of it is left when this process dies. All together stay within a budget; the least recently
used that nobody reads make room.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.cache.disk import Product
from orchestrator.errors import NoRoom
from orchestrator.model import Asset, Source
from orchestrator.routing.source_bytes import OptimisedOrigins, SourceBytes
from orchestrator.storage.store import ObjectStore

_FULL = "There is no room in memory for this image just now."


@dataclass(slots=True)
class _Held:
    bytes: int
    descriptor: int
    users: int = 0
    whole: bool = False
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class MemorySources:
    """Sources of one process in memory; lives on the event loop."""

    def __init__(
        self, store: ObjectStore, budget: int, origins: OptimisedOrigins | None = None
    ) -> None:
        """`budget` in bytes for all together; 0 turns it off."""
        self._bytes_of = SourceBytes(store, origins)
        self._budget = budget
        self._held: OrderedDict[Product, _Held] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Bytes taken, by what is being read into memory as well."""
        return sum(held.bytes for held in self._held.values())

    @asynccontextmanager
    async def opened(self, asset: Asset, product: Product, source: Source) -> AsyncIterator[Path]:
        """The source as a file for as long as the block lasts; read once for all who ask meanwhile.

        Raises NoRoom when it does not fit beside what is being read, SourceChanged,
        StorageUnavailable.
        """
        held = self._held.get(product) or self._admit(product, source.bytes)
        self._held.move_to_end(product)
        held.users += 1
        try:
            async with held.reading:
                if not held.whole:
                    await self._fill(held, asset, source)
            yield Path(f"/proc/{os.getpid()}/fd/{held.descriptor}")
        finally:
            held.users -= 1
            if not held.users and not held.whole:
                self._drop(product)

    def close(self) -> None:
        """Give the memory back."""
        for product in list(self._held):
            self._drop(product)

    def _admit(self, product: Product, size: int) -> _Held:
        idle = [known for known, held in self._held.items() if not held.users]
        while self.bytes + size > self._budget and idle:
            self._drop(idle.pop(0))
        if self.bytes + size > self._budget:
            raise NoRoom(_FULL)
        held = self._held[product] = _Held(size, os.memfd_create("source", os.MFD_CLOEXEC))
        return held

    def _drop(self, product: Product) -> None:
        os.close(self._held.pop(product).descriptor)

    async def _fill(self, held: _Held, asset: Asset, source: Source) -> None:
        os.lseek(held.descriptor, 0, os.SEEK_SET)
        async with self._bytes_of.opened(asset, source) as chunks:
            async for chunk in chunks:
                # Not in a thread: that would go on writing when this is cancelled, into a file that
                # others read or that is closed. It copies a megabyte of memory, and waits for none.
                _write(held.descriptor, chunk)
        held.whole = True


def _write(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
