"""Reads pictures that clients sent in the bodies of requests: objects of our own store, which the
origin `upload:{key}` names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator.errors import ObjectNotFound, OriginUnavailable
from orchestrator.model import SENT
from orchestrator.origins.reader_types import NotModified, OriginAccess, OriginStream
from orchestrator.storage.store import ObjectStore


class SentReader:
    """Reads a customer's own pictures, and no other objects."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @asynccontextmanager
    async def open(
        self, origin: str, access: OriginAccess
    ) -> AsyncIterator[OriginStream | NotModified]:
        """Open the object. Raises OriginUnavailable when it is missing or of another customer."""
        key = origin.removeprefix(SENT)
        if not key.startswith(f"{access.customer}/") or not key.endswith("/upload"):
            raise OriginUnavailable(
                "The origin is not a picture that was sent for this customer.",
                retryable=False,
                code="origin_refused",
            )
        try:
            async with self._store.open(key) as stream:
                yield OriginStream(stream, stream.length)
        except ObjectNotFound as error:
            raise OriginUnavailable(
                "The picture that was sent does not exist any more. Send it again.",
                retryable=False,
                code="origin_not_found",
            ) from error
