"""Pictures that clients send in the body of a request: bounded, stored, and named as an origin.

The object is entered in the ledger before it is written. It becomes live in the transaction that
accepts the request for an ingest from it, so a killed process leaves nothing. It stays until its
asset has another origin, so the asset can be ingested again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from orchestrator.catalog.asset_versions import AssetVersions
from orchestrator.catalog.objects import Objects
from orchestrator.catalog.values import StoredObject
from orchestrator.errors import BodyTooSlow, Overloaded
from orchestrator.ingest.remove import Remover
from orchestrator.ingest.scratch import Scratch
from orchestrator.model import SENT, AssetId
from orchestrator.origins.download import receive, too_large
from orchestrator.settings import Ingest
from orchestrator.storage.object_keys import upload_key
from orchestrator.storage.store import ObjectStore

_BUSY_RETRY_S = 5.0


class SentPictures:
    """Receives and stores the pictures of one process."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        objects: Objects,
        versions: AssetVersions,
        remover: Remover,
        scratch: Scratch,
        settings: Ingest,
        at_once: int,
    ) -> None:
        """At most `at_once` pictures are received at a time."""
        self._store = store
        self._objects = objects
        self._versions = versions
        self._remover = remover
        self._scratch = scratch
        self._settings = settings
        self._at_once = at_once
        self._receiving = 0

    @asynccontextmanager
    async def keep(
        self, asset_id: AssetId, chunks: AsyncIterator[bytes], expected: int | None
    ) -> AsyncIterator[str]:
        """Receive a picture of `expected` bytes, None if not known, and store it. Yields its
        origin. At the end of the block the object is unwanted, unless a request was accepted that
        names it.

        Raises Overloaded, TooLarge, BodyTooSlow, NotAnImage, NoRoom, Unavailable.
        """
        if expected is not None and expected > self._settings.max_bytes:
            raise too_large(self._settings.max_bytes)
        number = await self._versions.next_version()
        key = upload_key(asset_id, number)
        async with self._scratch.folder(expected or 0) as folder:
            size = await self._receive(folder / "body", chunks, expected)
            stored = (StoredObject(key, "upload", size),)
            await self._objects.enter(asset_id, number, stored)
            try:
                await self._store.put(key, folder / "body")
                yield f"{SENT}{key}"
            finally:
                await self._objects.discard(asset_id, number, stored)
                await self._remover.remove_without_grace(asset_id)

    async def _receive(self, path: Path, chunks: AsyncIterator[bytes], expected: int | None) -> int:
        if self._receiving >= self._at_once:
            raise Overloaded(
                f"{self._at_once} pictures are being received. Repeat the request after the"
                " seconds of Retry-After.",
                _BUSY_RETRY_S,
            )
        self._receiving += 1
        settings = self._settings
        try:
            async with asyncio.timeout(settings.total_timeout_s):
                received = await receive(
                    _in_time(chunks, settings.read_timeout_s),
                    path,
                    max_bytes=settings.max_bytes,
                    expected=expected,
                )
        except TimeoutError as error:
            raise BodyTooSlow("The picture did not arrive in time. Send it again.") from error
        finally:
            self._receiving -= 1
        return received.bytes


async def _in_time(chunks: AsyncIterator[bytes], pause_s: float) -> AsyncIterator[bytes]:
    """Yield the chunks. Raises TimeoutError for a pause of more than `pause_s` seconds."""
    while True:
        async with asyncio.timeout(pause_s):
            chunk = await anext(chunks, b"")
        if not chunk:
            return
        yield chunk
