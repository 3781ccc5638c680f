"""A folder of ordinary files as a store: what a person puts there is an object, and what is stored
there is a file that a web server can send.

A file is replaced by a rename, so a reader sees a whole file or none. Its media type and metadata
are in `.{name}.json` beside it, which names the version of the file that it describes. Names that
begin with a dot are never objects. Threads do the blocking work.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import orjson

from orchestrator.errors import ObjectNotFound, PreconditionFailed, StorageUnavailable
from orchestrator.model import file_fingerprint
from orchestrator.storage.object_keys import check_key, check_metadata
from orchestrator.storage.store import (
    CHUNK_BYTES,
    DEFAULT_MEDIA_TYPE,
    ObjectInfo,
    ObjectStream,
    resolve_range,
)

_MISSING = "There is no such file."


class PictureFolder:
    """The files below `root`. The ETag of a file is that of its time and size."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def head(self, key: str) -> ObjectInfo:
        """The description of a file. Raises ObjectNotFound, StorageUnavailable."""
        return await asyncio.to_thread(self._head, key)

    @asynccontextmanager
    async def open(
        self, key: str, *, start: int = 0, length: int | None = None, if_match: str = ""
    ) -> AsyncIterator[ObjectStream]:
        """Read a file, or a range of it, as `ObjectStore.open`. Raises ObjectNotFound,
        PreconditionFailed when it does not have the ETag `if_match`, InvalidInput,
        StorageUnavailable.
        """
        info, file = await asyncio.to_thread(self._open, key)
        try:
            if if_match and info.etag != if_match:
                raise PreconditionFailed("The file was replaced.")
            first, size = resolve_range(info.bytes, start, length)
            yield ObjectStream(info, _chunks(file, first, size), start=first, length=size)
        finally:
            await asyncio.to_thread(file.close)

    async def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        media_type: str = DEFAULT_MEDIA_TYPE,
        metadata: Mapping[str, str] | None = None,
        cache_control: str = "",
    ) -> ObjectInfo:
        """Write a file with the bytes, or with those of another file. `cache_control` is ignored: a
        web server has its own rules. Raises StorageUnavailable.
        """
        del cache_control
        entries = check_metadata(metadata)
        return await asyncio.to_thread(self._put, key, body, media_type, entries)

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete files, and the folders that this empties. A missing file is no error."""
        await asyncio.to_thread(self._delete, list(keys))

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield every file whose key begins with `prefix`."""
        for info in await asyncio.to_thread(lambda: [*self._walk(prefix)]):
            yield info

    async def local_path(self, key: str) -> Path | None:
        """The file itself, or None. It can be replaced at any time."""
        return await asyncio.to_thread(self._local_path, key)

    def _path(self, key: str) -> Path:
        segments = check_key(key).split("/")
        if any(segment.startswith(".") for segment in segments):
            raise ObjectNotFound(_MISSING)
        return self._root.joinpath(*segments)

    def _local_path(self, key: str) -> Path | None:
        path = self._path(key)
        return path if path.is_file() else None

    def _head(self, key: str) -> ObjectInfo:
        path = self._path(key)
        try:
            with _translated():
                return _describe(key, path, path.stat())
        except ObjectNotFound:
            if self._root.is_dir():
                raise
            # Of a folder that is not mounted nothing is known to be missing.
            raise StorageUnavailable("The folder does not exist. Mount or create it.") from None

    def _open(self, key: str) -> tuple[ObjectInfo, BinaryIO]:
        path = self._path(key)
        with _translated():
            # Not blocking: a pipe of this name must not stop the thread.
            file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
            try:
                return _describe(key, path, os.fstat(file.fileno())), file
            except BaseException:  # raised again: the caller gets no file to close
                file.close()
                raise

    def _put(
        self, key: str, body: bytes | Path, media_type: str, metadata: dict[str, str]
    ) -> ObjectInfo:
        path = self._path(key)
        with _translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            with _written(path, body) as status:
                file = file_fingerprint(status)
                record = {"file": file, "mediaType": media_type, "metadata": metadata}
                # The record first: a file that is found has its media type.
                with _written(_record_path(path), orjson.dumps(record)):
                    pass
            return _describe(key, path, status)

    def _delete(self, keys: Iterable[str]) -> None:
        with _translated():
            for key in keys:
                path = self._path(key)
                with suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()
                    _record_path(path).unlink(missing_ok=True)
                    if path.parent != self._root:
                        with suppress(OSError):  # other files are in it
                            path.parent.rmdir()

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        top = prefix.rpartition("/")[0]
        start = self._path(top) if top else self._root
        with _translated():
            for folder, folders, names in os.walk(start):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in names:
                    path = Path(folder) / name
                    key = path.relative_to(self._root).as_posix()
                    if not name.startswith(".") and key.startswith(prefix):
                        with suppress(ObjectNotFound, FileNotFoundError):
                            yield _describe(key, path, path.stat())


async def _chunks(file: BinaryIO, start: int, length: int) -> AsyncIterator[bytes]:
    if start:
        await asyncio.to_thread(file.seek, start)
    while chunk := await asyncio.to_thread(file.read, min(CHUNK_BYTES, length)):
        length -= len(chunk)
        yield chunk


def _record_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


def _describe(key: str, path: Path, status: os.stat_result) -> ObjectInfo:
    if not stat.S_ISREG(status.st_mode):
        raise ObjectNotFound(_MISSING)
    fingerprint = file_fingerprint(status)
    media_type, metadata = DEFAULT_MEDIA_TYPE, {}
    with suppress(OSError, ValueError, TypeError, KeyError):
        record = orjson.loads(_record_path(path).read_bytes())
        if record["file"] == fingerprint:
            media_type, metadata = record["mediaType"], record["metadata"]
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return ObjectInfo(key, status.st_size, f'"{fingerprint}"', media_type, modified, metadata)


@contextmanager
def _written(path: Path, body: bytes | Path) -> Iterator[os.stat_result]:
    """Write a file under another name, and rename it at the end of the block; yields its status."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            if isinstance(body, Path):
                with body.open("rb") as original:
                    shutil.copyfileobj(original, file, CHUNK_BYTES)
            else:
                file.write(body)
            file.flush()
            os.fsync(file.fileno())
            status = os.fstat(file.fileno())
        yield status
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise ObjectNotFound(_MISSING) from error
    except OSError as error:
        raise StorageUnavailable("The folder cannot be read or written.") from error
