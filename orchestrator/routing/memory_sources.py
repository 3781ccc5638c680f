"""Sources in memory, whole or in part, for sources that must not be copied to disk or find no room
there.

Each is a file without a name (memfd), so that the imaging workers open it like any other file and
the kernel frees it when this process dies. A partial one is sparse: as long as the source, with
holes where nothing was fetched. All files together stay within a budget, counted by the pages
that are filled, and within the descriptors that connections do not need. To make room, the least
recently used file without readers is dropped.
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
from orchestrator.cache.hot.memory_files import affordable_files
from orchestrator.errors import NoRoom
from orchestrator.imaging import partial_source
from orchestrator.imaging.intervals import Span, Spans, merge_spans
from orchestrator.imaging.partial_source import (
    BytesMissing,
    NeededBytes,
    PartialFile,
    SourceOutline,
)
from orchestrator.imaging.recipes import Recipe
from orchestrator.model import Asset, Source, SourceKind
from orchestrator.origins.optimised_origins import OptimisedOrigins
from orchestrator.routing.source_bytes import SourceBytes
from orchestrator.storage.store import ObjectStore

_NO_ROOM = "The server has no memory for this image now. Try again shortly."
_PAGE = 4096
"""Memory is allocated in pages of this size."""
WORTH_PARTS = 1024**2
"""Shorter sources are read whole: that takes one request, and reading parts takes three or more."""
_GAP = 16 * 1024
"""Ranges with smaller gaps between them are fetched as one: a request costs more than the gap."""
_MAX_RANGES = 32
_PARALLEL_REQUESTS = 4
_MAX_ROUNDS = 100
"""Limit for headers that refer to ever more headers."""


class WholeSourceRequired(Exception):
    """This source cannot be used in part. Stays within routing."""


@dataclass(slots=True)
class _MemoryFile:
    descriptor: int
    size: int
    filled: Spans = field(default_factory=Spans)
    """Bytes that arrived and were verified."""
    allocated: Spans = field(default_factory=Spans)
    """Pages that count against the budget, also those of reads that failed."""
    readers: int = 0
    outline: SourceOutline | None = None
    fill_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def path(self) -> Path:
        return Path(f"/proc/{os.getpid()}/fd/{self.descriptor}")

    @property
    def is_whole(self) -> bool:
        return not self.filled.missing((0, self.size))


class MemorySourceCache:
    """The sources in memory of one process. Used only on the event loop."""

    def __init__(
        self,
        store: ObjectStore,
        budget: int,
        origins: OptimisedOrigins | None = None,
        *,
        max_files: int | None = None,
    ) -> None:
        """`budget` is in bytes for all files together; 0 turns the cache off. `max_files` limits
        the files that are kept without readers; by default it is what the process can afford.
        """
        self._bytes_of = SourceBytes(store, origins)
        self._budget = budget
        self._max_files = affordable_files() if max_files is None else max_files
        self._files: OrderedDict[tuple[Product, str], _MemoryFile] = OrderedDict()
        self._bytes = self._bytes_in_use = 0

    @property
    def bytes(self) -> int:
        """Bytes allocated, including those of reads that are still running."""
        return self._bytes

    @asynccontextmanager
    async def open_whole(
        self, asset: Asset, product: Product, source: Source
    ) -> AsyncIterator[Path]:
        """The whole source as a file that exists while the block runs. Concurrent callers share one
        read.

        Raises NoRoom if it does not fit beside the files that have readers, SourceChanged,
        StorageUnavailable.
        """
        async with self._leased_file(product, "whole", source.bytes) as file:
            async with file.fill_lock:
                if not file.is_whole:
                    self._allocate(file, [(0, file.size)])
                    await self._fill(file, asset, source)
            yield file.path

    @asynccontextmanager
    async def open_parts(
        self, asset: Asset, product: Product, source: Source, recipe: Recipe
    ) -> AsyncIterator[Path]:
        """A file that has at least the bytes of the source that `recipe` needs, at their offsets.

        Raises WholeSourceRequired if the source must be read whole or already is in memory, else
        as `open_whole`.
        """
        if (product, "whole") in self._files or not self._may_have_parts(source):
            raise WholeSourceRequired
        async with self._leased_file(product, "part", source.bytes) as file:
            async with file.fill_lock:
                await self._fill_parts(file, asset, source, recipe)
            yield file.path

    def close(self) -> None:
        """Free all memory."""
        for key in list(self._files):
            self._drop(key)

    @asynccontextmanager
    async def _leased_file(
        self, product: Product, kind: str, size: int
    ) -> AsyncIterator[_MemoryFile]:
        """The file of this product, created if there is none. After its last reader, a file without
        usable content is dropped. Raises NoRoom.
        """
        key = product, kind
        if key not in self._files:
            while len(self._files) >= self._max_files and (unused := self._oldest_unused()):
                self._drop(unused)
            self._files[key] = _MemoryFile(_create_file(size), size)
        file = self._files[key]
        self._files.move_to_end(key)
        if not file.readers:
            self._bytes_in_use += file.allocated.total
        file.readers += 1
        try:
            yield file
        finally:
            file.readers -= 1
            if not file.readers:
                self._bytes_in_use -= file.allocated.total
                is_usable = file.is_whole if kind == "whole" else file.outline is not None
                is_over = len(self._files) > self._max_files
                if self._files.get(key) is file and (not is_usable or is_over):
                    self._drop(key)

    def _allocate(self, file: _MemoryFile, spans: Iterable[Span]) -> None:
        """Count the pages of the spans against the budget. Raises NoRoom if the budget does not
        have them beside the files that have readers.
        """
        pages = Spans()
        for span in spans:
            pages.add(_whole_pages(span, file.size))
        new = Spans()
        for span in pages:
            for missing in file.allocated.missing(span):
                new.add(missing)
        if self._bytes_in_use + new.total > self._budget:
            raise NoRoom(_NO_ROOM)
        while self._bytes + new.total > self._budget and (unused := self._oldest_unused()):
            self._drop(unused)
        self._bytes += new.total
        self._bytes_in_use += new.total
        for span in new:
            file.allocated.add(span)

    def _oldest_unused(self) -> tuple[Product, str] | None:
        """The least recently used file without readers. The search passes over the files that have
        readers, which are few.
        """
        return next((key for key, file in self._files.items() if not file.readers), None)

    def _drop(self, key: tuple[Product, str]) -> None:
        file = self._files.pop(key)
        self._bytes -= file.allocated.total
        os.close(file.descriptor)

    async def _fill(self, file: _MemoryFile, asset: Asset, source: Source) -> None:
        async with self._bytes_of.open(asset, source) as chunks:
            await _write(file.descriptor, 0, chunks)
        file.filled.add((0, file.size))

    def _may_have_parts(self, source: Source) -> bool:
        return (
            source.kind is not SourceKind.ORIGINAL
            and source.bytes > WORTH_PARTS
            and self._bytes_of.has_spans(source)
        )

    async def _fill_parts(
        self, file: _MemoryFile, asset: Asset, source: Source, recipe: Recipe
    ) -> None:
        """Fetch what `recipe` needs and is missing. The headers are parsed first, as often as they
        refer to bytes that have to be fetched.
        """
        partial_file = PartialFile(file.descriptor, file.size, file.filled)
        for _ in range(_MAX_ROUNDS):
            try:
                # In a thread: the lists of a large file take some 10 ms to parse.
                part = await asyncio.to_thread(_plan, file, partial_file, recipe)
            except BytesMissing as missing:
                await self._fetch(file, asset, source, missing.spans)
                continue
            if part is None:
                break
            await self._fetch(file, asset, source, part.spans)
            return
        raise WholeSourceRequired

    async def _fetch(
        self, file: _MemoryFile, asset: Asset, source: Source, spans: Iterable[Span]
    ) -> None:
        """Fetch the missing bytes of the spans, in as few requests as sensible."""
        # A page is fetched as a whole or not at all, so a decoder can see that one is missing.
        pages = [_whole_pages(span, file.size) for span in spans]
        missing = [gap for span in pages for gap in file.filled.missing(span)]
        ranges = merge_spans(missing, gap=_GAP, max_spans=_MAX_RANGES)
        if not ranges:
            return
        self._allocate(file, ranges)
        requests = asyncio.Semaphore(_PARALLEL_REQUESTS)

        async def fetch_range(span: Span) -> None:
            async with requests, self._bytes_of.open_span(asset, source, span) as chunks:
                await _write(file.descriptor, span[0], chunks)
            file.filled.add(span)
            metrics.SOURCE_RANGE_BYTES.inc(span[1] - span[0])

        try:
            async with asyncio.TaskGroup() as group:
                for span in ranges:
                    group.create_task(fetch_range(span))
        except ExceptionGroup as failures:  # the first failure cancels the other requests
            raise failures.exceptions[0] from failures


def _plan(file: _MemoryFile, partial_file: PartialFile, recipe: Recipe) -> NeededBytes | None:
    """What `recipe` needs of a file, or None if that is the whole file. Raises BytesMissing."""
    file.outline = file.outline or partial_source.read_outline(partial_file)
    if file.outline is None:
        return None
    return partial_source.needed_bytes(file.outline, recipe, partial_file)


def _create_file(size: int) -> int:
    """The descriptor of a new file. Raises NoRoom if the system has no descriptor or memory."""
    try:
        descriptor = os.memfd_create("source", os.MFD_CLOEXEC)
    except OSError as error:
        raise NoRoom(_NO_ROOM) from error
    os.ftruncate(descriptor, size)
    return descriptor


def _whole_pages(span: Span, size: int) -> Span:
    return span[0] // _PAGE * _PAGE, min(-(-span[1] // _PAGE) * _PAGE, size)


async def _write(descriptor: int, offset: int, chunks: AsyncIterator[bytes]) -> None:
    """Write the chunks from `offset`, which is the start of a page. Only whole pages are written
    before the last one, because a reader takes a page that has something for complete.
    """
    rest = bytearray()
    async for chunk in chunks:
        rest += chunk
        whole = len(rest) // _PAGE * _PAGE
        offset = _write_all(descriptor, offset, memoryview(rest)[:whole])
        rest = rest[whole:]
    _write_all(descriptor, offset, memoryview(rest))


def _write_all(descriptor: int, offset: int, data: memoryview) -> int:
    """Write `data`; the offset after it.

    Not in a thread: a thread would go on writing after a cancellation, to a file that others read
    or to a descriptor that was closed. This copies a megabyte of memory and never waits for a disk.
    """
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
    return offset
