"""Removes the objects that no asset names any more. The ledger lists them; the store is not listed.

A grace period lets requests in progress finish with the version they began with. An object is
deleted before its row is, so another process can continue the work of one that was killed.
"""

from __future__ import annotations

import logging

from orchestrator import metrics
from orchestrator.catalog.objects import Objects
from orchestrator.errors import Unavailable
from orchestrator.model import AssetId
from orchestrator.storage.store import ObjectStore

log = logging.getLogger(__name__)
_OBJECTS_PER_PASS = 1000


class Remover:
    """Removes objects that have been unwanted for `grace_s` seconds."""

    def __init__(self, objects: Objects, store: ObjectStore, grace_s: float) -> None:
        self._objects = objects
        self._store = store
        self._grace_s = grace_s

    async def remove(self, asset_id: AssetId | None = None) -> int:
        """Remove the due objects of one asset, or of all. Returns the number of objects.

        Raises StorageUnavailable, CatalogUnavailable; a later call removes the rest.
        """
        removed = 0
        while keys := await self._objects.unwanted(
            self._grace_s, _OBJECTS_PER_PASS, asset_id=asset_id
        ):
            await self._store.delete(keys)
            await self._objects.forget(keys)
            removed += len(keys)
            metrics.OBJECTS_REMOVED.inc(len(keys))
        return removed

    async def remove_without_grace(self, asset_id: AssetId) -> None:
        """Remove the unwanted objects of an asset now, if there is no grace period. An outage is
        logged, not raised: the sweeper removes the objects.
        """
        if self._grace_s:
            return
        try:
            await self.remove(asset_id)
        except Unavailable as error:
            log.warning(
                "objects not removed", extra={"asset": str(asset_id), "reason": error.public}
            )
