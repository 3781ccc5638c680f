"""The protocol of a store of pictures that other programs read or write, too: a bucket (S3Store) or
a folder of ordinary files (PictureFolder).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from orchestrator.storage.store import ObjectInfo, ObjectStream


class PictureStore(Protocol):
    """The methods are those of ObjectStore, with `cache_control` for the clients that read from the
    store itself.
    """

    async def head(self, key: str) -> ObjectInfo:
        """The description of the object. Raises ObjectNotFound, StorageUnavailable."""
        ...

    def open(
        self, key: str, *, start: int = 0, length: int | None = None, if_match: str = ""
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """Read the object, or a range of it. Raises as `ObjectStore.open`."""
        ...

    async def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        media_type: str,
        metadata: Mapping[str, str] | None,
        cache_control: str,
    ) -> ObjectInfo:
        """Store the bytes, or the file's bytes. Raises StorageUnavailable."""
        ...

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete the objects; a missing one is no error. Raises StorageUnavailable."""
        ...

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield every object whose key begins with `prefix`."""
        ...
