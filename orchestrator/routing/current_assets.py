"""The asset that a request is answered from, as its file is now.

A refused asset has no pixels, so its file is compared with the refused one at each request: a
replaced file is registered again. Other assets are registered again after their source was found
replaced.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from orchestrator.errors import SourceChanged, refusal
from orchestrator.model import FILE, Asset, AssetId
from orchestrator.origins.file_reader import verify_file
from orchestrator.routing.access_tokens import Rights
from orchestrator.routing.plan import check_access
from orchestrator.routing.snapshots import Snapshot, Snapshots


class SourceRefresher(Protocol):
    """Registers an asset again after its source was replaced; implemented by ingest, which routing
    must not import.
    """

    async def refresh_source(self, asset: Asset) -> Asset:
        """The asset as registered from the bytes that are at its origin now."""
        ...


class CurrentAssets:
    """Snapshots of assets that can be served."""

    def __init__(self, snapshots: Snapshots, refresher: SourceRefresher) -> None:
        self._snapshots = snapshots
        self._refresher = refresher

    async def get(self, asset_id: AssetId, rights: Rights) -> Snapshot:
        """The asset.

        Raises AssetNotFound, CatalogUnavailable, the recorded error of a refused asset, and
        NotAuthorised instead of it for a client that may see nothing of the asset.
        """
        snapshot = await self._snapshots.get(asset_id)
        if not snapshot.asset.refused:
            return snapshot
        check_access(None if rights.cover(snapshot.asset) else snapshot.asset.public_edge)
        try:
            await _raise_refusal(snapshot.asset)
        except SourceChanged:
            return await self.reread(snapshot)
        return snapshot

    def at_hand(self, asset_id: AssetId) -> Snapshot | None:
        """The asset if it can be served and is known to be up to date; None if the catalogue or a
        file would have to be asked.
        """
        snapshot = self._snapshots.at_hand(asset_id)
        return None if snapshot is None or snapshot.asset.refused else snapshot

    async def known(self, asset_id: AssetId) -> Asset:
        """The asset as it is known, whether or not it can be served. Raises AssetNotFound,
        CatalogUnavailable.
        """
        return (await self._snapshots.get(asset_id)).asset

    async def reread(self, snapshot: Snapshot) -> Snapshot:
        """The asset as the catalogue has it now. If it is unchanged there, the bytes at its source
        were replaced under the same version, and it is registered again first.

        Raises as `get`, and as `SourceRefresher.refresh_source`.
        """
        before = snapshot.asset
        now = await self._snapshots.reread(before.id)
        if now.asset.version == before.version and now.asset.source == before.source:
            await self._refresher.refresh_source(now.asset)
            now = await self._snapshots.reread(before.id)
        if now.asset.refused:
            await _raise_refusal(now.asset)
        return now


async def _raise_refusal(asset: Asset) -> None:
    """Raise the recorded error, or SourceChanged if another file replaced the refused one."""
    source = asset.source
    if source is not None and source.location.startswith(FILE):
        await asyncio.to_thread(verify_file, source)
    raise refusal(asset.error_code, asset.error)
