"""Reads the bytes of a source that is not on this host: from the object store or, for an optimised
origin, from the origin itself.

They are the bytes that the asset's version was recorded with, by ETag and length; otherwise reading
raises SourceChanged.
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
from orchestrator.model import FILE, STORE, Asset, Source
from orchestrator.origins.optimised_origins import OptimisedOrigins
from orchestrator.storage.store import ObjectStore

_CHANGED = "The asset is being replaced. Try again."
_CHANGED_CODES = frozenset({"origin_changed", "origin_not_found"})


class SourceBytes:
    """Opens sources in the object store and at optimised origins."""

    def __init__(self, store: ObjectStore, origins: OptimisedOrigins | None = None) -> None:
        """Without `origins`, only sources in the object store can be read."""
        self._store = store
        self._origins = origins

    @asynccontextmanager
    async def open(self, asset: Asset, source: Source) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of the source, in chunks. They are verified only when the last chunk was read.

        Raises StorageUnavailable and SourceChanged, the latter also at the end of the chunks.
        """
        if source.location.startswith(STORE):
            key = source.location.removeprefix(STORE)
            try:
                async with self._store.open(key, if_match=source.fingerprint) as stream:
                    if stream.info.etag != source.fingerprint:
                        raise SourceChanged(_CHANGED)
                    yield _exactly(stream, source.bytes)
            except (ObjectNotFound, PreconditionFailed) as error:
                raise SourceChanged(_CHANGED) from error
            return
        async with self._open_origin(asset, source, None) as chunks:
            yield _exactly(chunks, source.bytes)

    def has_spans(self, source: Source) -> bool:
        """True if `open_span` can read this source."""
        if source.location.startswith(FILE):
            return False
        return self._origins is not None or source.location.startswith(STORE)

    @asynccontextmanager
    async def open_span(
        self, asset: Asset, source: Source, span: Span
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of one span of a source, in chunks, never fewer than the span has.

        Raises SourceChanged and StorageUnavailable.
        """
        start, end = span
        if not source.location.startswith(STORE):
            async with self._open_origin(asset, source, span) as chunks:
                yield _exactly(chunks, end - start)
            return
        key = source.location.removeprefix(STORE)
        try:
            async with self._store.open(
                key, start=start, length=end - start, if_match=source.fingerprint
            ) as stream:
                if (stream.info.etag, stream.info.bytes) != (source.fingerprint, source.bytes):
                    raise SourceChanged(_CHANGED)
                yield _exactly(stream, end - start)
        except (InvalidInput, ObjectNotFound, PreconditionFailed) as error:
            raise SourceChanged(_CHANGED) from error

    @asynccontextmanager
    async def _open_origin(
        self, asset: Asset, source: Source, span: Span | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of an optimised origin, or of a span of it."""
        if self._origins is None:
            raise StorageUnavailable("This process cannot read the origin of this asset.")
        try:
            async with self._origins.read(
                asset.id.customer, asset.origin, source.location, source.fingerprint, span
            ) as chunks:
                yield chunks
        except OriginUnavailable as error:
            if error.code in _CHANGED_CODES:
                raise SourceChanged(_CHANGED) from error
            raise StorageUnavailable(
                "The origin of this asset does not answer. Try again shortly."
            ) from error


async def _exactly(chunks: AsyncIterator[bytes], expected: int) -> AsyncIterator[bytes]:
    """The chunks, which must have `expected` bytes in all. Raises SourceChanged."""
    count = 0
    async for chunk in chunks:
        count += len(chunk)
        if count > expected:
            break
        yield chunk
    if count != expected:
        raise SourceChanged(_CHANGED)
