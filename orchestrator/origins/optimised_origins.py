"""Optimised origins: buckets and files that serve as the source of an asset, without a copy in the
object store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from orchestrator.errors import OriginUnavailable
from orchestrator.origins.access_resolver import AccessResolver
from orchestrator.origins.file_reader import location_of_file
from orchestrator.origins.origin_address import local_path
from orchestrator.origins.origin_kinds import BUCKET_KINDS, OriginKind
from orchestrator.origins.reader_types import OriginLocation
from orchestrator.origins.s3_reader import S3Reader


class OptimisedOrigins:
    """Locates optimised origins for ingest and reads them for delivery."""

    def __init__(self, resolver: AccessResolver, buckets: S3Reader) -> None:
        self._resolver = resolver
        self._buckets = buckets

    async def is_optimised(self, customer: int, origin: str) -> bool:
        """Return whether the strategy of the origin is optimised."""
        strategy = await self._resolver.match(customer, origin, fresh=True)
        return strategy is not None and strategy.optimised

    async def locate(self, customer: int, origin: str) -> OriginLocation | None:
        """Return where an optimised origin is; None for any other. Raises OriginUnavailable."""
        resolved = await self._resolver.resolve(customer, origin, fresh=True)
        if not resolved.is_optimised:
            return None
        if resolved.access.kind is OriginKind.FILE:
            return await asyncio.to_thread(location_of_file, local_path(origin))
        if resolved.access.kind not in BUCKET_KINDS:
            return None
        return await self._resolver.attempt(
            resolved, lambda access: self._buckets.locate(origin, access)
        )

    @asynccontextmanager
    async def read(
        self,
        customer: int,
        origin: str,
        location: str,
        etag: str,
        span: tuple[int, int] | None = None,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read the bytes of an origin in a bucket that is the source of an asset, or those from
        `span` (start, end). `location` and `etag` are those of its `OriginLocation`.

        Raises OriginUnavailable; its code is `origin_changed` when the object has another ETag.
        """
        resolved = await self._resolver.resolve(customer, origin)
        if resolved.access.kind not in BUCKET_KINDS:
            resolved = await self._resolver.resolve(customer, origin, fresh=True)
        if resolved.access.kind not in BUCKET_KINDS:
            raise OriginUnavailable(
                "The origin strategy that this asset was ingested with no longer exists. "
                "Ingest the asset again.",
                retryable=False,
                code="origin_config",
            )
        async with AsyncExitStack() as stack:
            chunks = await self._resolver.attempt(
                resolved,
                lambda access: stack.enter_async_context(
                    self._buckets.read(location, access, etag, span)
                ),
            )
            yield chunks
