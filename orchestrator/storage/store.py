"""The protocol of the object store, its values, and functions over any store.

A key names one object; it may also be a prefix of other keys (`a/b` and `a/b/c`). A reader sees a
whole object or none, and the bytes read are checked against the announced length. Every
implementation raises only ObjectNotFound, PreconditionFailed, InvalidInput and StorageUnavailable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from orchestrator.errors import InvalidInput, StorageUnavailable, TooLarge

DEFAULT_MEDIA_TYPE = "application/octet-stream"
CHUNK_BYTES = 1024**2
"""The largest chunk of a stream."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """The description of one object. `etag` is opaque, has its quotes, and changes with the bytes.

    A listing leaves `media_type` and `metadata` empty, because S3 does not list them.
    """

    key: str
    bytes: int
    etag: str
    media_type: str
    modified: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


class ObjectStream:
    """`length` bytes of one object from `start` on, in chunks; can be iterated once.

    Raises StorageUnavailable when the store sends fewer or more bytes than it announced.
    """

    def __init__(
        self, info: ObjectInfo, chunks: AsyncIterator[bytes], *, start: int, length: int
    ) -> None:
        self.info = info
        self.start = start
        self.length = length
        self._chunks = chunks
        self._received = 0

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next chunk, which is never empty."""
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            if self._received != self.length:
                raise StorageUnavailable("The object store sent too few bytes.") from None
            raise
        self._received += len(chunk)
        if self._received > self.length:
            raise StorageUnavailable("The object store sent too many bytes.")
        return chunk

    async def read(self) -> bytes:
        """Return all remaining bytes."""
        return b"".join([chunk async for chunk in self])


class ObjectStore(Protocol):
    """Bytes under keys. Every method raises StorageUnavailable when the store does not answer in
    time.
    """

    async def head(self, key: str) -> ObjectInfo:
        """Return the description of the object. Raises ObjectNotFound."""
        ...

    def open(
        self, key: str, *, start: int = 0, length: int | None = None, if_match: str = ""
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """Read the object from byte `start` on. A negative `start` means that many bytes from the
        end, and allows no `length`.

        `length` (at least 1) is shortened to the object's end; None reads to the end. `if_match` is
        the ETag the object must have. Raises ObjectNotFound, PreconditionFailed, and InvalidInput
        when `start` is neither 0 nor before the object's end.
        """
        ...

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
        """Store the bytes, or the file's bytes. A current object is replaced atomically.

        Raises PreconditionFailed when `if_absent` and there is an object, or when the object does
        not have the ETag `if_match` (a missing object has none). A write whose answer is lost is
        sent again, so a writer can get PreconditionFailed although its first attempt was stored.
        """
        ...

    async def copy(self, source: str, target: str) -> ObjectInfo:
        """Copy within the store, media type and metadata included. Raises ObjectNotFound."""
        ...

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete the objects; a missing object is no error."""
        ...

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield every object whose key begins with `prefix`, in no particular order; fetched in
        pages.
        """
        ...

    async def sweep_temporary(self) -> int:
        """Remove what killed writers left; returns the number of files or uploads removed."""
        ...


@runtime_checkable
class LocalFiles(Protocol):
    """A store whose objects are files of this machine."""

    async def local_path(self, key: str) -> Path | None:
        """Return the file with exactly the object's bytes, or None. Do not write to it. It is
        removed when the object is replaced.
        """
        ...


async def read(store: ObjectStore, key: str, *, max_bytes: int, if_match: str = "") -> bytes:
    """Return the whole object. Raises TooLarge, before reading, when it has more than `max_bytes`,
    and the errors of `open`.
    """
    async with store.open(key, if_match=if_match) as stream:
        if stream.length > max_bytes:
            raise TooLarge("The stored object is larger than expected.")
        return await stream.read()


def resolve_range(size: int, start: int, length: int | None) -> tuple[int, int]:
    """Return the first byte and the number of bytes that `ObjectStore.open` reads of an object of
    `size` bytes. Raises InvalidInput as `open` does.
    """
    if length is not None and (length < 1 or start < 0):
        raise InvalidInput("A range has at least one byte, and a range from the end has no length.")
    first = max(0, size + start) if start < 0 else start
    if first >= size and first > 0:
        raise InvalidInput("The range starts past the end of the object.")
    return first, size - first if length is None else min(length, size - first)


async def delete_prefix(store: ObjectStore, prefix: str, *, page_keys: int = 1000) -> int:
    """Delete every object whose key begins with `prefix`; returns the number of objects."""
    deleted = 0
    batch: list[str] = []
    async for info in store.list(prefix):
        batch.append(info.key)
        if len(batch) >= page_keys:
            await store.delete(batch)
            deleted += len(batch)
            batch = []
    await store.delete(batch)
    return deleted + len(batch)
