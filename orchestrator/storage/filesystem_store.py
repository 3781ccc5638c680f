"""The object store in a folder of this machine; `folder.py` does the work, here it is kept off
the event loop.

A cancelled write may still happen; a cancelled read closes its file once the thread is done with
it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from orchestrator.errors import InvalidInput, ObjectNotFound, PreconditionFailed, StorageUnavailable
from orchestrator.storage.file_objects import Folder
from orchestrator.storage.object_keys import checked, checked_metadata
from orchestrator.storage.object_records import Condition
from orchestrator.storage.store import (
    CHUNK_BYTES,
    DEFAULT_MEDIA_TYPE,
    ObjectInfo,
    ObjectStream,
    resolved_range,
)

T = TypeVar("T")

_PAGE = 1000


class FilesystemStore:
    """An ObjectStore whose objects are LocalFiles. Blocking work runs in `threads` threads of its
    own.
    """

    def __init__(self, root: Path, *, threads: int = 8) -> None:
        self._folder = Folder(root)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="storage")

    async def close(self) -> None:
        """Wait for the work under way; the store cannot be used afterwards."""
        await asyncio.to_thread(self._executor.shutdown)

    async def head(self, key: str) -> ObjectInfo:
        """As ObjectStore.head."""
        record = await self._run(lambda: self._folder.record(checked(key)))
        if record is None:
            raise ObjectNotFound("There is no such object.")
        return record.info

    @asynccontextmanager
    async def open(
        self, key: str, *, start: int = 0, length: int | None = None, if_match: str = ""
    ) -> AsyncIterator[ObjectStream]:
        """As ObjectStore.open."""
        reading = _Reading(self._executor)
        try:
            opening = partial(reading.open, self._folder, checked(key), start, length, if_match)
            info, first, size = await reading.run(opening)
            yield ObjectStream(info, reading.chunks(first, size), start=first, length=size)
        finally:
            reading.close()

    async def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        media_type: str = DEFAULT_MEDIA_TYPE,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        if_match: str = "",
    ) -> ObjectInfo:
        """As ObjectStore.put."""
        checked(key)
        entries = checked_metadata(metadata)
        condition = Condition(if_absent, if_match)

        def work() -> ObjectInfo:
            with _opened(body) as data:
                return self._folder.put(
                    key, data, media_type=media_type, metadata=entries, condition=condition
                )

        return await self._run(work)

    async def copy(self, source: str, target: str) -> ObjectInfo:
        """As ObjectStore.copy."""
        return await self._run(lambda: self._folder.copy(checked(source), checked(target)))

    async def delete(self, keys: Iterable[str]) -> None:
        """As ObjectStore.delete."""
        wanted = [checked(key) for key in keys]
        for begin in range(0, len(wanted), _PAGE):
            page = wanted[begin : begin + _PAGE]
            await self._run(partial(self._delete, page))

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """As ObjectStore.list."""
        walk = self._folder.walk(prefix)
        while page := await self._run(lambda: list(islice(walk, _PAGE))):
            for info in page:
                yield info

    async def local_path(self, key: str) -> Path | None:
        """As LocalFiles.local_path."""
        return await self._run(lambda: _local_path(self._folder, checked(key)))

    async def sweep_temporary(self, older_than_s: float = 3600) -> int:
        """Remove what killed writers left that long ago; returns how many files."""
        return await self._run(lambda: self._folder.sweep(older_than_s))

    def _delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._folder.delete(key)

    async def _run(self, work: Callable[[], T]) -> T:
        with _translated():
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)


class _Reading:
    """One file being read by threads; closed only when no thread is using it."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._file: BinaryIO | None = None
        self._busy: Future[Any] | None = None
        self._ahead = b""

    def open(
        self, folder: Folder, key: str, start: int, length: int | None, if_match: str
    ) -> tuple[ObjectInfo, int, int]:
        """Open the file and read its first chunk in one go: most objects have no other. Blocks."""
        record, self._file = folder.open(key)
        if if_match and record.info.etag != if_match:
            raise PreconditionFailed("The object is not the one expected.")
        first, size = resolved_range(record.info.bytes, start, length)
        self._ahead = self._read(first, min(CHUNK_BYTES, size))
        return record.info, first, size

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        chunk, end = self._ahead, start + length
        while chunk:  # none before the end: the stream says that this is too little
            yield chunk
            start += len(chunk)
            if start >= end:
                return
            chunk = await self.run(partial(self._read, start, min(CHUNK_BYTES, end - start)))

    def close(self) -> None:
        if self._busy is not None and not self._busy.done():
            self._busy.add_done_callback(lambda _: self._close())
        else:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self, start: int, length: int) -> bytes:
        assert self._file is not None  # noqa: S101  `open` came first
        return os.pread(self._file.fileno(), length, start)

    async def run(self, work: Callable[[], T]) -> T:
        """Run it in a thread; a cancelled caller leaves, the thread ends in its own time."""
        self._busy = busy = self._executor.submit(work)
        with _translated():
            return await asyncio.wrap_future(busy)


@contextmanager
def _opened(body: bytes | Path) -> Iterator[bytes | BinaryIO]:
    if isinstance(body, bytes):
        yield body
        return
    try:
        file = body.open("rb", buffering=0)
    except OSError as error:
        raise InvalidInput("The file to be stored cannot be read.") from error
    with file:
        yield file


def _local_path(folder: Folder, key: str) -> Path | None:
    record = folder.record(key)
    return None if record is None else folder.data_path(record)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailable("The object store's folder cannot be used.") from error
