"""The bytes of a source that is not on this machine: from the object store, or, of an optimised
origin, from the origin itself.

They are those the asset's version was recorded with, by ETag and length, or SourceChanged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator.errors import (
    InvalidInput,
    ObjectNotFound,
    OriginUnavailable,
    PreconditionFailed,
    SourceChanged,
    StorageUnavailable,
)
from orchestrator.imaging.intervals import Span
from orchestrator.model import STORE, Asset, Source
from orchestrator.origins.optimised_origins import OptimisedOrigins
from orchestrator.storage.store import ObjectStore

_CHANGED = "The image is being replaced; try again."
_OTHER = frozenset({"origin_changed", "origin_not_found"})


class SourceBytes:
    """Reads sources that have to be fetched."""

    def __init__(self, store: ObjectStore, origins: OptimisedOrigins | None = None) -> None:
        """Without `origins`, sources that are not in the store are out of reach."""
        self._store = store
        self._origins = origins

    @asynccontextmanager
    async def opened(self, asset: Asset, source: Source) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of the source, in chunks; whoever reads to the end has had the right ones.

        Raises SourceChanged, also at the end, and StorageUnavailable.
        """
        if source.location.startswith(STORE):
            key = source.location.removeprefix(STORE)
            try:
                async with self._store.open(key, if_match=source.fingerprint) as stream:
                    if stream.info.etag != source.fingerprint:
                        raise SourceChanged(_CHANGED)
                    yield _whole(stream, source.bytes)
            except (ObjectNotFound, PreconditionFailed) as error:
                raise SourceChanged(_CHANGED) from error
            return
        if self._origins is None:
            raise StorageUnavailable("The image's origin is out of reach here.")
        try:
            async with self._origins.read(
                asset.id.customer, asset.origin, source.location, source.fingerprint
            ) as chunks:
                yield _whole(chunks, source.bytes)
        except OriginUnavailable as error:
            if error.code in _OTHER:
                raise SourceChanged(_CHANGED) from error
            raise StorageUnavailable("The image's origin does not answer.") from error

    @asynccontextmanager
    async def span(self, source: Source, span: Span) -> AsyncIterator[AsyncIterator[bytes]]:
        """Some bytes of a source that is in the store, in chunks; not fewer than asked for.

        Raises SourceChanged and StorageUnavailable.
        """
        start, end = span
        key = source.location.removeprefix(STORE)
        try:
            async with self._store.open(
                key, start=start, length=end - start, if_match=source.fingerprint
            ) as stream:
                if (stream.info.etag, stream.info.bytes) != (source.fingerprint, source.bytes):
                    raise SourceChanged(_CHANGED)
                yield _whole(stream, end - start)
        except (InvalidInput, ObjectNotFound, PreconditionFailed) as error:
            raise SourceChanged(_CHANGED) from error


async def _whole(chunks: AsyncIterator[bytes], expected: int) -> AsyncIterator[bytes]:
    count = 0
    async for chunk in chunks:
        count += len(chunk)
        if count > expected:
            break
        yield chunk
    if count != expected:
        raise SourceChanged(_CHANGED)
