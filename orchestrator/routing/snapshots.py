"""In-memory TTL cache of assets over the catalogue; a change notice drops the asset at once.

While change notices do not arrive, every use reads the catalogue. While the catalogue does not
answer, public assets are served from memory, marked stale; restricted assets only for
`database.stale_restricted_s` seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from orchestrator.catalog.catalog import Catalog
from orchestrator.errors import AssetNotFound, CatalogUnavailable
from orchestrator.model import Asset, AssetId
from orchestrator.routing.change_history import ChangeHistory
from orchestrator.routing.name_cache import NameCache
from orchestrator.settings import Delivery as DeliverySettings


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An asset as last read; `stale` if the catalogue could not confirm it for this request."""

    asset: Asset
    stale: bool = False


@dataclass(slots=True)
class _Entry:
    asset: Asset | None
    read_at: float
    confirmed_at: float


class Snapshots:
    """Assets by id. Concurrent callers for one asset share one read."""

    def __init__(
        self,
        catalog: Catalog,
        settings: DeliverySettings,
        stale_restricted_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._stale_restricted_s = stale_restricted_s
        self._now = now
        self._entries: LRUCache[AssetId, _Entry] = LRUCache(settings.snapshot_entries)
        self._reads: dict[AssetId, asyncio.Task[Asset | None]] = {}
        self._changes = ChangeHistory(settings.snapshot_entries)
        self.names = NameCache(catalog, settings, self._changes, now)
        """Aliases and customers' names, dropped by the same change notices."""

    async def get(self, asset_id: AssetId) -> Snapshot:
        """The asset. Raises AssetNotFound, and CatalogUnavailable if the catalogue does not answer
        and the asset must not be served without it.
        """
        entry = self._entries.get(asset_id)
        if entry is not None and self._is_fresh(entry):
            return _snapshot_of(entry.asset, stale=False)
        try:
            return _snapshot_of(await self._read_once(asset_id), stale=False)
        except CatalogUnavailable:
            return self._stale_snapshot(self._entries.get(asset_id))

    def at_hand(self, asset_id: AssetId) -> Snapshot | None:
        """The asset if it exists and `get` would not read the catalogue; else None."""
        entry = self._entries.get(asset_id)
        if entry is None or entry.asset is None or not self._is_fresh(entry):
            return None
        return Snapshot(entry.asset) if entry.asset.source is not None else None

    async def reread(self, asset_id: AssetId) -> Snapshot:
        """The asset as the catalogue has it now. Raises as `get`; what was known of the asset stays
        known if the catalogue does not answer.
        """
        self._reads.pop(asset_id, None)  # it may have begun before the change
        return _snapshot_of(await self._read_once(asset_id), stale=False)

    @property
    def knows_assets(self) -> bool:
        """True if public assets can be served although the catalogue does not answer."""
        return any(each.asset and not each.asset.restricted for each in self._entries.values())

    def drop(self, asset_id: AssetId) -> None:
        """The asset changed: forget it, and do not keep the result of a read that runs now."""
        self._entries.pop(asset_id, None)
        self._reads.pop(asset_id, None)
        self._changes.record(asset_id)

    def on_notices_lost(self) -> None:
        """Change notices no longer arrive. From now on every use reads the catalogue."""
        self._reads.clear()  # a change of what they read may have no notice
        now = self._now()
        for entry in self._entries.values():
            if self._is_fresh(entry):
                entry.confirmed_at = now  # up to this moment, every change had a notice
        self._changes.set_listening(False)

    def on_notices_restored(self) -> None:
        """Change notices arrive again. Every entry may have changed in between."""
        self._reads.clear()
        self._changes.set_listening(True)
        for entry in self._entries.values():
            entry.read_at = float("-inf")

    def _is_fresh(self, entry: _Entry) -> bool:
        if not self._changes.is_listening:
            return False
        settings = self._settings
        ttl_s = settings.snapshot_missing_ttl_s if entry.asset is None else settings.snapshot_ttl_s
        return self._now() - entry.read_at < ttl_s

    async def _read_once(self, asset_id: AssetId) -> Asset | None:
        task = self._reads.get(asset_id)
        if task is None:
            # In no TaskGroup: all callers of this asset wait for the read, so that the cancellation
            # of one caller must not end it.
            task = asyncio.create_task(self._read(asset_id))  # shared by all its callers
            self._reads[asset_id] = task
            task.add_done_callback(lambda done: self._end_read(asset_id, done))
        return await asyncio.shield(task)

    def _end_read(self, asset_id: AssetId, task: asyncio.Task[Asset | None]) -> None:
        if self._reads.get(asset_id) is task:
            del self._reads[asset_id]
        if not task.cancelled():
            # Mark the exception as retrieved: each waiter raises it, and if every caller was
            # cancelled, it is of no interest.
            task.exception()

    async def _read(self, asset_id: AssetId) -> Asset | None:
        asset = await self._catalog.get(asset_id)
        if self._reads.get(asset_id) is asyncio.current_task():
            now = self._now()
            self._entries[asset_id] = _Entry(asset, now, now)
        return asset

    def _stale_snapshot(self, entry: _Entry | None) -> Snapshot:
        if entry is None or entry.asset is None:
            raise CatalogUnavailable("The catalogue does not answer. Try again shortly.")
        age_s = self._now() - entry.confirmed_at
        if entry.asset.restricted and age_s > self._stale_restricted_s:
            raise CatalogUnavailable("The catalogue does not answer. Try again shortly.")
        return _snapshot_of(entry.asset, stale=True)


def _snapshot_of(asset: Asset | None, *, stale: bool) -> Snapshot:
    """Raises AssetNotFound for an asset without an original: unknown, only declared, or failed at
    its first ingest. A refused asset is returned.
    """
    if asset is None or asset.source is None:
        raise AssetNotFound("There is no such asset.")
    return Snapshot(asset, stale)
