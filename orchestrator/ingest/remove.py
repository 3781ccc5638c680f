"""Removing objects that no asset wants any more: those the ledger says, exactly; nothing is listed.

A grace lets readers under way finish with the version they began with. Whoever dies in the middle
is followed by another: an object is deleted before its row is forgotten.
"""

from __future__ import annotations

import logging

from orchestrator import metrics
from orchestrator.catalog.objects import Objects
from orchestrator.errors import Unavailable
from orchestrator.model import AssetId
from orchestrator.storage.store import ObjectStore

log = logging.getLogger(__name__)
_AT_ONCE = 1000


class Remover:
    """Removes what has been unwanted for `grace_s` seconds."""

    def __init__(self, objects: Objects, store: ObjectStore, grace_s: float) -> None:
        self._objects = objects
        self._store = store
        self._grace_s = grace_s

    async def remove(self, asset_id: AssetId | None = None) -> int:
        """Remove what is due, of one asset or of all; returns how many objects there were.

        Raises StorageUnavailable, CatalogUnavailable; what is left is removed the next time.
        """
        removed = 0
        while keys := await self._objects.unwanted(self._grace_s, _AT_ONCE, asset_id=asset_id):
            await self._store.delete(keys)
            await self._objects.forget(keys)
            removed += len(keys)
            metrics.OBJECTS_REMOVED.inc(len(keys))
        return removed

    async def at_once(self, asset_id: AssetId) -> None:
        """Remove what is due of one asset now where there is no grace; never fails."""
        if self._grace_s:
            return
        try:
            await self.remove(asset_id)
        except Unavailable as error:
            log.warning(
                "objects not removed", extra={"asset": str(asset_id), "reason": error.public}
            )
