"""Sources in memory, whole or in part, for those that are not to be on disk, or find no room there.

Each is a file without a name (memfd), so that the imaging workers open it like any other and
nothing of it is left when this process dies. One in part is as long as the source and empty where
nothing was fetched. All together stay within a budget, counted by what is filled, and within the
descriptors that connections can spare; the least recently used that nobody reads make room.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator import metrics
from orchestrator.cache.disk.cache import Product
from orchestrator.cache.hot.memory_files import affordable
from orchestrator.errors import NoRoom
from orchestrator.imaging import partial_source as partial
from orchestrator.imaging.intervals import Span, Spans, merge_spans
from orchestrator.imaging.jpeg2000.tile_parts import END_OF_CODESTREAM
from orchestrator.imaging.partial_source import (
    BytesMissing,
    NeededBytes,
    PartialFile,
    SourceOutline,
)
from orchestrator.imaging.recipes import Recipe
from orchestrator.model import STORE, Asset, Source, SourceKind
from orchestrator.origins.optimised_origins import OptimisedOrigins
from orchestrator.routing.source_bytes import SourceBytes
from orchestrator.storage.store import ObjectStore

_FULL = "There is no room in memory for this image just now."
_PAGE = 4096
"""What memory is given in."""
WORTH_PARTS = 1024**2
"""Shorter sources are read whole: that takes one request, and parts of them three or more."""
_AHEAD = 32 * 1024
"""Directories and headers are read so much at a time."""
_GAP = 16 * 1024
"""Ranges no further apart are fetched as one: a request costs more."""
_MOST_RANGES = 32
_AT_ONCE = 4
_MOST_ROUNDS = 100
"""Headers that lead to and fro for longer are not followed."""


class WholeSourceRequired(Exception):
    """Of this source only the whole is of use; for routing only."""


@dataclass(slots=True)
class _Held:
    descriptor: int
    size: int
    filled: Spans = field(default_factory=Spans)
    """What has arrived and was verified."""
    taken: Spans = field(default_factory=Spans)
    """What memory was given for, also to reads that failed."""
    users: int = 0
    outline: SourceOutline | None = None
    is_false: bool = False
    """True if its headers said what is not so."""
    end: int = 0
    """Where the end marker is, if one was put before the file's own."""
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def path(self) -> Path:
        return Path(f"/proc/{os.getpid()}/fd/{self.descriptor}")

    @property
    def whole(self) -> bool:
        return not self.filled.missing((0, self.size))


class MemorySourceCache:
    """Sources of one process in memory; lives on the event loop."""

    def __init__(
        self,
        store: ObjectStore,
        budget: int,
        origins: OptimisedOrigins | None = None,
        *,
        most: int | None = None,
    ) -> None:
        """`budget` in bytes for all together; 0 turns it off. `most` sources are kept that nobody
        reads, as many as the process can afford unless said.
        """
        self._bytes_of = SourceBytes(store, origins)
        self._budget = budget
        self._most = affordable() if most is None else most
        self._held: OrderedDict[tuple[Product, str], _Held] = OrderedDict()
        self._bytes = self._bytes_in_use = 0

    @property
    def bytes(self) -> int:
        """Bytes taken, by what is being read into memory as well."""
        return self._bytes

    @asynccontextmanager
    async def opened(self, asset: Asset, product: Product, source: Source) -> AsyncIterator[Path]:
        """The source as a file for as long as the block lasts; read once for all who ask meanwhile.

        Raises NoRoom when it does not fit beside what is being read, SourceChanged,
        StorageUnavailable.
        """
        async with self._leased(product, "whole", source.bytes) as held:
            async with held.reading:
                if not held.whole:
                    self._take(held, [(0, held.size)])
                    await self._fill(held, asset, source)
            yield held.path

    @asynccontextmanager
    async def opened_part(
        self, product: Product, source: Source, recipe: Recipe
    ) -> AsyncIterator[Path]:
        """A file that holds at least what `recipe` needs of the source, where the source has it.

        Raises WholeSourceRequired when it has to be read whole (or already was), else as `opened`.
        """
        if (product, "whole") in self._held or not _may_have_parts(source):
            raise WholeSourceRequired
        async with self._leased(product, "part", source.bytes) as held:
            async with held.reading:
                await self._fill_part(held, source, recipe)
            yield held.path

    def close(self) -> None:
        """Give the memory back."""
        for key in list(self._held):
            self._drop(key)

    @asynccontextmanager
    async def _leased(self, product: Product, how: str, size: int) -> AsyncIterator[_Held]:
        """The file of this product, made if there is none; one that is of no use is not kept.
        Raises NoRoom.
        """
        key = product, how
        if key not in self._held:
            while len(self._held) >= self._most and (idle := self._oldest_idle()):
                self._drop(idle)
            self._held[key] = _Held(_made(size), size)
        held = self._held[key]
        self._held.move_to_end(key)
        if not held.users:
            self._bytes_in_use += held.taken.total
        held.users += 1
        try:
            yield held
        finally:
            held.users -= 1
            if not held.users:
                self._bytes_in_use -= held.taken.total
                useful = held.whole if how == "whole" else held.outline is not None
                if self._held.get(key) is held and (not useful or len(self._held) > self._most):
                    self._drop(key)

    def _take(self, held: _Held, spans: Iterable[Span]) -> None:
        """Count memory for the spans, in pages. Raises NoRoom when there is not enough beside what
        is in use.
        """
        pages = Spans()
        for start, end in spans:
            pages.add((start // _PAGE * _PAGE, min(-(-end // _PAGE) * _PAGE, held.size)))
        new = Spans()
        for span in pages:
            for missing in held.taken.missing(span):
                new.add(missing)
        if self._bytes_in_use + new.total > self._budget:
            raise NoRoom(_FULL)
        while self._bytes + new.total > self._budget and (idle := self._oldest_idle()):
            self._drop(idle)
        self._bytes += new.total
        self._bytes_in_use += new.total
        for span in new:
            held.taken.add(span)

    def _oldest_idle(self) -> tuple[Product, str] | None:
        """The least recently used that nobody reads; what is read is passed over, and is little."""
        return next((key for key, held in self._held.items() if not held.users), None)

    def _drop(self, key: tuple[Product, str]) -> None:
        held = self._held.pop(key)
        self._bytes -= held.taken.total
        os.close(held.descriptor)

    async def _fill(self, held: _Held, asset: Asset, source: Source) -> None:
        async with self._bytes_of.opened(asset, source) as chunks:
            await _write(held.descriptor, 0, chunks)
        held.filled.add((0, held.size))

    async def _fill_part(self, held: _Held, source: Source, recipe: Recipe) -> None:
        """Fetch what is missing, the headers that say what it is first."""
        file = PartialFile(held.descriptor, held.size, held.filled)
        for _ in range(0 if held.is_false else _MOST_ROUNDS):
            try:
                held.outline = held.outline or partial.read_outline(file)
                part = partial.needed_bytes(held.outline, recipe, file) if held.outline else None
            except BytesMissing as missing:
                start, end = missing.span
                await self._fetch(held, source, [(start, min(max(end, start + _AHEAD), held.size))])
                continue
            if part is None:
                break
            await self._fetch(held, source, part.spans)
            if part.end > held.end:
                self._seal(held, part)
            return
        raise WholeSourceRequired

    def _seal(self, held: _Held, part: NeededBytes) -> None:
        """Make a decoder stop at the end of the part. Raises WholeSourceRequired when the part is
        not what the headers declare.
        """
        partial.write_end_marker(held.descriptor, part.end, held.end)
        held.filled.add((part.end, part.end + len(END_OF_CODESTREAM)))
        held.end = part.end
        with held.path.open("rb") as file:
            if not partial.is_complete(file, part.end):
                held.is_false = True
                raise WholeSourceRequired

    async def _fetch(self, held: _Held, source: Source, spans: Iterable[Span]) -> None:
        """Bring what is missing of the spans, in as few requests as sensible."""
        missing = [gap for span in spans for gap in held.filled.missing(span)]
        ranges = merge_spans(missing, gap=_GAP, max_spans=_MOST_RANGES)
        if not ranges:
            return
        self._take(held, ranges)
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def bring(span: Span) -> None:
            async with at_once, self._bytes_of.span(source, span) as chunks:
                await _write(held.descriptor, span[0], chunks)
            held.filled.add(span)
            metrics.SOURCE_RANGE_BYTES.inc(span[1] - span[0])

        try:
            async with asyncio.TaskGroup() as group:
                for span in ranges:
                    group.create_task(bring(span))
        except ExceptionGroup as failed:  # the first says enough
            raise failed.exceptions[0] from failed


def _made(size: int) -> int:
    """The descriptor of a new file. Raises NoRoom when the system gives none."""
    try:
        descriptor = os.memfd_create("source", os.MFD_CLOEXEC)
    except OSError as error:
        raise NoRoom(_FULL) from error
    os.ftruncate(descriptor, size)
    return descriptor


def _may_have_parts(source: Source) -> bool:
    return (
        source.kind is not SourceKind.ORIGINAL
        and source.location.startswith(STORE)
        and source.bytes > WORTH_PARTS
    )


async def _write(descriptor: int, at: int, chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        # Not in a thread: that would go on writing when this is cancelled, into a file that others
        # read or that is closed. It copies a megabyte of memory, and waits for none.
        rest = memoryview(chunk)
        while rest:
            written = os.pwrite(descriptor, rest, at)
            rest, at = rest[written:], at + written
