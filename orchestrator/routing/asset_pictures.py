"""Registered assets as the originals of transforms: what a client may have, and the source as a
file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from orchestrator.cache.disk.product_writer import write_chunks
from orchestrator.errors import NotAuthorised
from orchestrator.model import Asset, AssetId
from orchestrator.routing.access_tokens import SignedTokens
from orchestrator.routing.current_assets import CurrentAssets
from orchestrator.routing.orchestrate import NotOrchestrated, SourceOrchestrator, source_of
from orchestrator.routing.snapshots import Snapshot
from orchestrator.routing.source_bytes import SourceBytes

OpenScratch = Callable[[int], AbstractAsyncContextManager[Path]]
"""Opens an empty folder with room for that many bytes."""


class SentCredentials(Protocol):
    """What a request says about who sent it."""

    @property
    def authorization(self) -> str:
        """The value of the header Authorization."""

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies."""


class AssetPictureSource:
    """Finds assets, and gives out their sources as files."""

    def __init__(
        self,
        assets: CurrentAssets,
        tokens: SignedTokens,
        sources: SourceOrchestrator,
        source_bytes: SourceBytes,
        open_scratch: OpenScratch,
    ) -> None:
        self._assets = assets
        self._tokens = tokens
        self._sources = sources
        self._bytes = source_bytes
        self._open_scratch = open_scratch

    async def find(self, asset_id: AssetId, credentials: SentCredentials) -> tuple[Asset, bool]:
        """The asset if this client may have all of it, and whether it is stale.

        Raises AssetNotFound, NotAuthorised, CatalogUnavailable, the recorded error of a refused
        asset.
        """
        rights = self._tokens.rights(credentials.authorization, credentials.cookies)
        snapshot = await self._assets.get(asset_id, rights)
        if snapshot.asset.restricted and not rights.cover(snapshot.asset):
            raise NotAuthorised("This asset is restricted. Send a token with one of its roles.")
        return snapshot.asset, snapshot.stale

    async def refresh(self, asset: Asset) -> None:
        """Read an asset again whose source was replaced. Raises as `find`."""
        await self._assets.reread(Snapshot(asset))

    @asynccontextmanager
    async def lease(self, asset: Asset) -> AsyncIterator[Path]:
        """The source as a file, for the block: that of the source cache, or a file that is removed
        afterwards if it is not copied there.

        Raises AssetNotFound, SourceChanged, NoRoom, StorageUnavailable.
        """
        try:
            async with self._sources.lease(asset) as path:
                yield path
                return
        except NotOrchestrated:
            pass
        source = source_of(asset)
        async with (
            self._open_scratch(source.bytes) as folder,
            self._bytes.open(asset, source) as chunks,
        ):
            path = folder / "source"
            await write_chunks(path, chunks)
            yield path
