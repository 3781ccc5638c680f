"""The object store in a folder of this machine. Threads do the blocking work (`object_folder.py`,
`object_writer.py`), so the event loop is never blocked.

A cancelled write may still be made. A cancelled read closes its file when its thread has finished.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from orchestrator.errors import (
    InvalidInput,
    ObjectNotFound,
    PreconditionFailed,
    StorageFull,
    StorageUnavailable,
)
from orchestrator.storage.leftovers import sweep_leftovers
from orchestrator.storage.object_folder import ObjectFolder
from orchestrator.storage.object_keys import check_key, check_metadata
from orchestrator.storage.object_records import Condition
from orchestrator.storage.object_writer import ObjectWriter
from orchestrator.storage.store import (
    CHUNK_BYTES,
    DEFAULT_MEDIA_TYPE,
    ObjectInfo,
    ObjectStream,
    resolve_range,
)

T = TypeVar("T")

_PAGE = 1000


class FilesystemStore:
    """An ObjectStore whose objects are LocalFiles. It has its own pool of `threads` threads."""

    def __init__(self, root: Path, *, threads: int = 8) -> None:
        self._folder = ObjectFolder(root)
        self._writer = ObjectWriter(self._folder)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="storage")

    async def close(self) -> None:
        """Wait for the running work. The store cannot be used afterwards."""
        await asyncio.to_thread(self._executor.shutdown)

    async def head(self, key: str) -> ObjectInfo:
        """See ObjectStore.head."""
        record = await self._run(lambda: self._folder.record(check_key(key)))
        if record is None:
            raise ObjectNotFound("There is no such object.")
        return record.info

    @asynccontextmanager
    async def open(
        self, key: str, *, start: int = 0, length: int | None = None, if_match: str = ""
    ) -> AsyncIterator[ObjectStream]:
        """See ObjectStore.open."""
        reader = _FileReader(self._executor)
        try:
            open_file = partial(reader.open, self._folder, check_key(key), start, length, if_match)
            info, first, size = await reader.run(open_file)
            yield ObjectStream(info, reader.chunks(first, size), start=first, length=size)
        finally:
            reader.close()

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
        """See ObjectStore.put."""
        check_key(key)
        entries = check_metadata(metadata)
        condition = Condition(if_absent, if_match)

        def write() -> ObjectInfo:
            with _open_body(body) as data:
                return self._writer.put(
                    key, data, media_type=media_type, metadata=entries, condition=condition
                )

        return await self._run(write)

    async def copy(self, source: str, target: str) -> ObjectInfo:
        """See ObjectStore.copy."""
        return await self._run(lambda: self._writer.copy(check_key(source), check_key(target)))

    async def delete(self, keys: Iterable[str]) -> None:
        """See ObjectStore.delete."""
        valid_keys = [check_key(key) for key in keys]
        for begin in range(0, len(valid_keys), _PAGE):
            await self._run(partial(self._delete, valid_keys[begin : begin + _PAGE]))

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See ObjectStore.list."""
        walk = self._folder.walk(prefix)
        while page := await self._run(lambda: list(islice(walk, _PAGE))):
            for info in page:
                yield info

    async def local_path(self, key: str) -> Path | None:
        """See LocalFiles.local_path."""
        record = await self._run(lambda: self._folder.record(check_key(key)))
        return None if record is None else self._folder.data_path(record)

    async def sweep_temporary(self, older_than_s: float = 3600) -> int:
        """Remove files that killed writers left at least that long ago; returns how many."""
        return await self._run(lambda: sweep_leftovers(self._folder, older_than_s))

    def _delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._writer.delete(key)

    async def _run(self, work: Callable[[], T]) -> T:
        with _translate_errors():
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)


class _FileReader:
    """Reads one file in threads, and closes it only when no thread is using it."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._file: BinaryIO | None = None
        self._running: Future[Any] | None = None
        self._first_chunk = b""

    def open(
        self, folder: ObjectFolder, key: str, start: int, length: int | None, if_match: str
    ) -> tuple[ObjectInfo, int, int]:
        """Open the file and read its first chunk together, because most objects have only one.

        Blocking. Returns the object's description, the first byte and the number of bytes.
        """
        record, self._file = folder.open(key)
        if if_match and record.info.etag != if_match:
            raise PreconditionFailed("Another writer created, replaced or deleted the object.")
        first, size = resolve_range(record.info.bytes, start, length)
        self._first_chunk = self._read(first, min(CHUNK_BYTES, size))
        return record.info, first, size

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        chunk, end = self._first_chunk, start + length
        while chunk:  # an empty chunk before the end makes ObjectStream raise
            yield chunk
            start += len(chunk)
            if start >= end:
                return
            chunk = await self.run(partial(self._read, start, min(CHUNK_BYTES, end - start)))

    def close(self) -> None:
        if self._running is not None and not self._running.done():
            self._running.add_done_callback(lambda _: self._close_file())
        else:
            self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self, start: int, length: int) -> bytes:
        assert self._file is not None  # noqa: S101  `open` ran first
        return os.pread(self._file.fileno(), length, start)

    async def run(self, work: Callable[[], T]) -> T:
        """Run the work in a thread. If the caller is cancelled, the thread still finishes."""
        self._running = future = self._executor.submit(work)
        with _translate_errors():
            return await asyncio.wrap_future(future)


@contextmanager
def _open_body(body: bytes | Path) -> Iterator[bytes | BinaryIO]:
    if isinstance(body, bytes):
        yield body
        return
    try:
        file = body.open("rb", buffering=0)
    except OSError as error:
        raise InvalidInput("The file to store cannot be read.") from error
    with file:
        yield file


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The disk of the object store is full. Free disk space.") from error
        raise StorageUnavailable(
            "The folder of the object store cannot be read or written."
        ) from error
