"""The files of assets in a disk cache: dropped when an asset changes, and pinned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from orchestrator.cache.disk.entries import Entries
from orchestrator.cache.disk.eviction import Reason
from orchestrator.cache.disk.file_names import Product, asset_hash, place
from orchestrator.cache.disk.index_thread import IndexThread
from orchestrator.cache.disk.pins import Pins
from orchestrator.errors import NoRoom

log = logging.getLogger(__name__)


class AssetFiles:
    """Drops and pins the files of assets, which are given by their text ids.

    Without an index nothing is dropped, which is safe: products carry their version.
    """

    def __init__(self, name: str, thread: IndexThread, entries: Entries, pins: Pins) -> None:
        self.entries = entries
        self._name = name
        self._thread = thread
        self._pins = pins

    def has(self, product: Product) -> bool:
        """True if there is a file of this product. Counts neither as a use nor as a miss."""
        return self._thread.writer.ledger.tree.size(place(product)) is not None

    async def drop(self, asset: str) -> int:
        """Remove all files of the asset; returns their number."""
        return await self._drop(asset, None, "asset")

    async def drop_older(self, asset: str, version: int) -> int:
        """Remove the files of versions before `version`; returns their number."""
        return await self._drop(asset, version, "outdated")

    async def drop_prefix(self, prefix: str) -> int:
        """Remove all files of assets whose id is known and begins with `prefix` (see
        `has_unnamed`); returns their number.
        """
        total = 0
        try:
            while hashes := await self._thread.run(partial(self._pins.assets_with, prefix)):
                before = total
                for each in hashes:
                    drop = partial(self.entries.drop, each, None, "prefix")
                    total += await self._thread.run(drop)
                if total == before:  # files that cannot be removed would be listed for ever
                    break
        except NoRoom:
            log.warning("cached files not dropped", extra={"cache": self._name, "prefix": prefix})
        return total

    async def has_unnamed(self) -> bool:
        """True if there may be files of assets whose ids the index does not know (after a
        rebuild).
        """
        with suppress(NoRoom):
            return await self._thread.run(self._pins.has_unnamed)
        return False

    async def pin(self, asset: str) -> None:
        """Never evict the present and future files of this asset."""
        with suppress(NoRoom):  # without an index nothing is evicted; set_pins follows later
            await self._thread.run(lambda: self._pins.pin([asset]))

    async def unpin(self, asset: str) -> None:
        """Allow the files of this asset to be evicted."""
        with suppress(NoRoom):
            await self._thread.run(lambda: self._pins.unpin([asset]))

    async def set_pins(self, assets: Iterable[str], keep: Callable[[str], bool]) -> int:
        """Pin these assets, and remove all other pins except those for which `keep` is true;
        returns the number of changes.
        """
        with suppress(NoRoom):
            return await self._thread.run(lambda: self._pins.set_all(assets, keep))
        return 0

    async def _drop(self, asset: str, below: int | None, reason: Reason) -> int:
        try:
            drop = partial(self.entries.drop, asset_hash(asset), below, reason)
            return await self._thread.run(drop)
        except NoRoom:
            log.warning("cached files not dropped", extra={"cache": self._name, "asset": asset})
            return 0
