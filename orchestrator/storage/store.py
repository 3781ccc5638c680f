"""The protocol of the object store and the values it speaks in.

A key names one object; it may at the same time be a prefix of other keys (`a/b` and `a/b/c`). An
object is seen whole or not at all, and what was read is checked against the length the store
promised. Every form raises only ObjectNotFound, PreconditionFailed, InvalidInput and
StorageUnavailable.
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
"""Streams hand out at most this much at a time."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store knows of one object; `etag` is opaque, with its quotes, and changes with the
    bytes.

    A listing leaves `media_type` empty and `metadata` without entries: S3 does not tell them
    there.
    """

    key: str
    bytes: int
    etag: str
    media_type: str
    modified: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


class ObjectStream:
    """The bytes of one object from `start` on, `length` of them, in chunks; can be walked once.

    Raises StorageUnavailable when the store sends fewer or more bytes than it promised.
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
        """Itself: it is its own iterator."""
        return self

    async def __anext__(self) -> bytes:
        """The next chunk, never empty."""
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
        """All that is left, at once."""
        return b"".join([chunk async for chunk in self])


class ObjectStore(Protocol):
    """Bytes under keys. All methods raise StorageUnavailable when the store does not answer in
    time.
    """

    async def head(self, key: str) -> ObjectInfo:
        """What is known of the object. Raises ObjectNotFound."""
        ...

    def open(
        self, key: str, *, start: int = 0, length: int | None = None, if_match: str = ""
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """Read the object from byte `start` on; a negative `start` means that many bytes from the
        end, and no `length`.

        `length` (at least 1) is cut at the object's end; None reads to the end. `if_match` is the
        ETag the object must have. Raises ObjectNotFound, PreconditionFailed, and InvalidInput
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
        """Store the bytes, or the file's; what was there is replaced at one instant.

        Raises PreconditionFailed when `if_absent` and something is there, or it has not the ETag
        `if_match` (a missing object has none). A write whose answer got lost is tried again, so
        the writer who won may be told so too.
        """
        ...

    async def copy(self, source: str, target: str) -> ObjectInfo:
        """Copy within the store, media type and metadata included. Raises ObjectNotFound."""
        ...

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete the objects; keys with nothing under them are no error."""
        ...

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Every object whose key begins with `prefix`, in no particular order, fetched page by
        page.
        """
        ...

    async def sweep_temporary(self) -> int:
        """Remove what writers that died left behind; returns how many pieces there were."""
        ...


@runtime_checkable
class LocalFiles(Protocol):
    """A store whose objects are files of this machine."""

    async def local_path(self, key: str) -> Path | None:
        """The file with exactly the object's bytes, or None. It must not be written to; a
        replaced object's goes away.
        """
        ...


async def read(store: ObjectStore, key: str, *, max_bytes: int, if_match: str = "") -> bytes:
    """The whole object. Raises TooLarge, before reading, when it has more than `max_bytes`, and
    what `open` raises.
    """
    async with store.open(key, if_match=if_match) as stream:
        if stream.length > max_bytes:
            raise TooLarge("The stored object is larger than expected.")
        return await stream.read()


def resolved_range(size: int, start: int, length: int | None) -> tuple[int, int]:
    """The first byte and the number of bytes `ObjectStore.open` gives of an object of `size`.

    Raises InvalidInput as it does.
    """
    if length is not None and (length < 1 or start < 0):
        raise InvalidInput("A range is at least one byte long, and a suffix goes to the end.")
    first = max(0, size + start) if start < 0 else start
    if first >= size and first > 0:
        raise InvalidInput("The range starts past the end of the object.")
    return first, size - first if length is None else min(length, size - first)


async def delete_prefix(store: ObjectStore, prefix: str, *, at_once: int = 1000) -> int:
    """Delete every object whose key begins with `prefix`; returns how many there were."""
    deleted = 0
    batch: list[str] = []
    async for info in store.list(prefix):
        batch.append(info.key)
        if len(batch) >= at_once:
            await store.delete(batch)
            deleted += len(batch)
            batch = []
    await store.delete(batch)
    return deleted + len(batch)
