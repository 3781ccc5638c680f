"""The storage quota that one ingest or conversion reserves before it stores anything."""

from __future__ import annotations

import logging
from uuid import UUID

from orchestrator.catalog.quotas import Quotas
from orchestrator.errors import Unavailable
from orchestrator.model import AssetId

log = logging.getLogger(__name__)


class Reservation:
    """At most one reservation of an asset. `release` is called at the end of the work, also after
    the transaction that published used the reservation up.
    """

    def __init__(self, quotas: Quotas, asset_id: AssetId, lasts_s: float) -> None:
        """`lasts_s`: the reservation of a killed process expires after this many seconds."""
        self._quotas = quotas
        self._asset_id = asset_id
        self._lasts_s = lasts_s
        self._id: UUID | None = None

    async def reserve(self, new_bytes: int) -> UUID | None:
        """Reserve room for an asset that will have `new_bytes` in the store, instead of what was
        reserved before. Returns the id for the settlement; None if the customer has no limits.

        Raises OverQuota (the reservation before is kept), CatalogUnavailable.
        """
        self._id = await self._quotas.reserve(
            self._asset_id, new_bytes, self._lasts_s, instead_of=self._id
        )
        return self._id

    async def release(self) -> None:
        """Release what is still reserved. If the catalogue does not answer, it expires."""
        try:
            await self._quotas.release(self._id)
        except Unavailable as error:
            log.warning(
                "reservation left to expire",
                extra={"asset": str(self._asset_id), "reason": error.public},
            )
