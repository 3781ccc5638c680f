"""In-memory cache of names in image URLs: the asset of an alias, the number of a customer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import LRUCache

from orchestrator.catalog.catalog import Catalog
from orchestrator.errors import AssetNotFound, CatalogUnavailable
from orchestrator.model import AssetId
from orchestrator.routing.change_history import ChangeHistory
from orchestrator.settings import Delivery as DeliverySettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    """What a name stood for when it was read; None for an unknown name."""

    value: T | None
    read_at: float
    change_number: int
    """`ChangeHistory.number` when the read began."""


class NameCache:
    """Names resolved by the catalogue, kept for `delivery.snapshot_missing_ttl_s` seconds."""

    def __init__(
        self,
        catalog: Catalog,
        settings: DeliverySettings,
        changes: ChangeHistory,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._ttl_s = settings.snapshot_missing_ttl_s
        self._changes = changes
        self._now = now
        self._aliases: LRUCache[str, _Entry[AssetId]] = LRUCache(settings.snapshot_entries)
        self._customers: LRUCache[str, _Entry[int]] = LRUCache(settings.snapshot_entries)

    async def customer(self, text: str) -> int:
        """The customer with this number or name. Raises AssetNotFound for an unknown name, and
        CatalogUnavailable.
        """
        if text.isascii() and text.isdigit():
            return int(text)
        number = await self.customer_of_name(text)
        if number is None:
            raise AssetNotFound("There is no such customer. Check the path.")
        return number

    async def asset_of_alias(self, alias: str) -> AssetId | None:
        """The asset with this alias, or None. Raises CatalogUnavailable."""
        return await self._resolve(
            alias, self._aliases, self._catalog.resolve_alias, self._is_out_of_date
        )

    async def customer_of_name(self, name: str) -> int | None:
        """The number of the customer with this name, or None. Raises CatalogUnavailable."""
        return await self._resolve(
            name, self._customers, self._catalog.customer_id, lambda _: False
        )

    async def _resolve(
        self,
        name: str,
        entries: LRUCache[str, _Entry[T]],
        read: Callable[[str], Awaitable[T | None]],
        is_out_of_date: Callable[[_Entry[T]], bool],
    ) -> T | None:
        """What the name stands for. If the catalogue does not answer, what it stood for when it was
        last read.
        """
        entry = entries.get(name)
        if entry is not None and self._is_recent(entry) and not is_out_of_date(entry):
            return entry.value
        change_number = self._changes.number
        try:
            value = await read(name)
        except CatalogUnavailable:
            # Any change may have given an unknown name a meaning. That alone is no reason to fail.
            if entry is None or (entry.value is not None and is_out_of_date(entry)):
                raise
            return entry.value
        entries[name] = _Entry(value, self._now(), change_number)
        return value

    def _is_recent(self, entry: _Entry[T]) -> bool:
        return (
            self._changes.is_trusted(entry.change_number)
            and self._now() - entry.read_at < self._ttl_s
        )

    def _is_out_of_date(self, alias: _Entry[AssetId]) -> bool:
        """True if a change since the read may concern this alias: an alias changes with its asset,
        and an unknown alias may be given to any asset.
        """
        return self._changes.has_changed(alias.value, alias.change_number)
