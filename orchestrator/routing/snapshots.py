"""What this process remembers of assets: a TTL cache over the catalogue, dropped the moment an
asset changes.

While change notices cannot be heard, what is remembered is asked for anew at each use; while the
catalogue itself does not answer, public assets are served from memory (marked stale) and
restricted ones only for a short time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from cachetools import LRUCache

from orchestrator.errors import AssetNotFound, CatalogUnavailable
from orchestrator.model import Asset, AssetId
from orchestrator.settings import Delivery as DeliverySettings

T = TypeVar("T")


class AssetReader(Protocol):
    """The part of the catalogue that delivery reads."""

    async def get(self, asset_id: AssetId) -> Asset | None:
        """The asset as it is now, or None."""
        ...

    async def resolve_alias(self, alias: str) -> AssetId | None:
        """The asset an alias stands for, or None."""
        ...

    async def customer_id(self, name: str) -> int | None:
        """The customer with this name, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An asset as last read; `stale` when the catalogue could not confirm it just now."""

    asset: Asset
    stale: bool = False


@dataclass(slots=True)
class _Remembered:
    asset: Asset | None
    read_at: float
    confirmed_at: float


@dataclass(frozen=True, slots=True)
class _Name(Generic[T]):
    """What a name stands for, as last read; None for nothing."""

    value: T | None
    read_at: float
    heard: int
    """How many changes had been heard of when its reading began."""


class Snapshots:
    """Assets by id, read at most once at a time and remembered for a while."""

    def __init__(
        self,
        reader: AssetReader,
        settings: DeliverySettings,
        stale_restricted_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._settings = settings
        self._stale_restricted_s = stale_restricted_s
        self._now = now
        self._known: LRUCache[AssetId, _Remembered] = LRUCache(settings.snapshot_entries)
        self._aliases: LRUCache[str, _Name[AssetId]] = LRUCache(settings.snapshot_entries)
        self._customers: LRUCache[str, _Name[int]] = LRUCache(settings.snapshot_entries)
        self._changed: LRUCache[AssetId, int] = LRUCache(settings.snapshot_entries)
        """The number of the last change that was heard of each asset."""
        self._heard = self._distrusted = 0
        self._reading: dict[AssetId, asyncio.Task[Asset | None]] = {}
        self._listening = True

    @property
    def listening(self) -> bool:
        """False while changes could go unheard."""
        return self._listening

    async def get(self, asset_id: AssetId) -> Snapshot:
        """The asset. Raises AssetNotFound, or CatalogUnavailable when nothing may be served
        without the catalogue.
        """
        known = self._known.get(asset_id)
        if known is not None and self._is_fresh(known):
            return _snapshot(known.asset, stale=False)
        try:
            return _snapshot(await self._read_once(asset_id), stale=False)
        except CatalogUnavailable:
            return self._stale(self._known.get(asset_id))

    def drop(self, asset_id: AssetId) -> None:
        """Forget one asset: it changed. A read under way is not remembered either."""
        self._known.pop(asset_id, None)
        self._reading.pop(asset_id, None)
        self._heard += 1
        self._changed[asset_id] = self._heard

    def notices_lost(self) -> None:
        """Change notices cannot be heard: from now on every use asks the catalogue."""
        self._distrust_reads()
        now = self._now()
        for known in self._known.values():
            if self._is_fresh(known):
                known.confirmed_at = now  # until this moment no change of it went unheard
        self._listening = False

    def notices_restored(self) -> None:
        """Change notices are heard again; whatever was remembered may have changed meanwhile."""
        self._distrust_reads()
        self._listening = True
        for known in self._known.values():
            known.read_at = float("-inf")

    async def alias(self, text: str) -> AssetId | None:
        """The asset an alias stands for, or None; remembered briefly."""
        return await self._named(
            text, self._aliases, self._reader.resolve_alias, self._is_overtaken
        )

    async def customer(self, name: str) -> int | None:
        """The number of the customer with this name, or None; remembered briefly."""
        return await self._named(name, self._customers, self._reader.customer_id, lambda _: False)

    def _distrust_reads(self) -> None:
        """Neither join nor remember what was begun before: a change of it may go unheard."""
        self._reading.clear()
        self._heard += 1
        self._distrusted = self._heard

    def _is_fresh(self, known: _Remembered) -> bool:
        if not self._listening:
            return False
        settings = self._settings
        ttl_s = settings.snapshot_missing_ttl_s if known.asset is None else settings.snapshot_ttl_s
        return self._now() - known.read_at < ttl_s

    async def _read_once(self, asset_id: AssetId) -> Asset | None:
        task = self._reading.get(asset_id)
        if task is None:
            # The read belongs to all who wait for it, so no single caller's cancellation may end
            # it.
            task = asyncio.create_task(self._read(asset_id))
            self._reading[asset_id] = task
            task.add_done_callback(lambda done: self._read_done(asset_id, done))
        return await asyncio.shield(task)

    def _read_done(self, asset_id: AssetId, task: asyncio.Task[Asset | None]) -> None:
        if self._reading.get(asset_id) is task:
            del self._reading[asset_id]
        if not task.cancelled():
            task.exception()  # every waiter has its own copy; without waiters nobody needs it

    async def _read(self, asset_id: AssetId) -> Asset | None:
        asset = await self._reader.get(asset_id)
        if self._reading.get(asset_id) is asyncio.current_task():
            now = self._now()
            self._known[asset_id] = _Remembered(asset, now, now)
        return asset

    def _stale(self, known: _Remembered | None) -> Snapshot:
        if known is None or known.asset is None:
            raise CatalogUnavailable("The catalogue does not answer; try again shortly.")
        age_s = self._now() - known.confirmed_at
        if known.asset.restricted and age_s > self._stale_restricted_s:
            raise CatalogUnavailable("The catalogue does not answer; try again shortly.")
        return _snapshot(known.asset, stale=True)

    async def _named(
        self,
        text: str,
        names: LRUCache[str, _Name[T]],
        read: Callable[[str], Awaitable[T | None]],
        is_overtaken: Callable[[_Name[T]], bool],
    ) -> T | None:
        """What the name stands for; without the catalogue, what it did when last read."""
        kept = names.get(text)
        if kept is not None and self._is_recent(kept) and not is_overtaken(kept):
            return kept.value
        heard = self._heard
        try:
            found = await read(text)
        except CatalogUnavailable:
            # Of nothing, any change may have made something; that alone is no reason to fail.
            if kept is None or (kept.value is not None and is_overtaken(kept)):
                raise
            return kept.value
        names[text] = _Name(found, self._now(), heard)
        return found

    def _is_recent(self, name: _Name[T]) -> bool:
        return (
            self._listening
            and name.heard >= self._distrusted
            and self._now() - name.read_at < self._settings.snapshot_missing_ttl_s
        )

    def _is_overtaken(self, alias: _Name[AssetId]) -> bool:
        """True if a change was heard since that it may be part of; aliases change with theirs."""
        last = self._heard if alias.value is None else self._changed.get(alias.value, 0)
        return alias.heard < last


def _snapshot(asset: Asset | None, *, stale: bool) -> Snapshot:
    """Raises AssetNotFound for one that has nothing to show: declared, or failed at first."""
    if asset is None or not asset.servable:
        raise AssetNotFound("There is no such image here.")
    return Snapshot(asset, stale)
