"""Who may see what of an asset: its thumbnails are filed as open or auth by its rights, and are
filed anew, as copies under a number of their own, when these change.

A reader of the version before goes on reading what was filed for it; all keys change together.
"""

from __future__ import annotations

import asyncio

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.values import Settlement
from orchestrator.errors import AssetNotFound, Conflict
from orchestrator.ingest.convert import Conversions
from orchestrator.ingest.prepare import sizes_for
from orchestrator.ingest.publish import Publisher, Version, split
from orchestrator.ingest.register import Request
from orchestrator.model import Asset, AssetId, Dimensions, ThumbnailSizes, public_edge

_RACES = 5


class Filing:
    """Changes of rights."""

    def __init__(self, catalog: Catalog, publisher: Publisher, conversions: Conversions) -> None:
        self._catalog = catalog
        self._publisher = publisher
        self._conversions = conversions
        # The lock keeps a database connection, of which conversions leave at least two.
        self._one = asyncio.Semaphore(1)

    async def set_access(
        self,
        asset_id: AssetId,
        *,
        roles: tuple[str, ...] | None = None,
        max_unauthorised: int | None = None,
    ) -> Asset:
        """Change who may see how much; None leaves a field.

        Raises AssetNotFound, Conflict when the asset does not stop changing, StorageUnavailable.
        """
        for _ in range(_RACES):
            before = await self._catalog.assets.get(asset_id)
            if before is None:
                raise AssetNotFound(f"There is no asset {asset_id}.")
            wanted = before.roles if roles is None else roles
            limit = before.max_unauthorised if max_unauthorised is None else max_unauthorised
            sizes = split(await self._sizes_of(before), public_edge(wanted, limit))
            after = await self._set(before, sizes, roles, max_unauthorised)
            if after is not None:
                return after
        raise Conflict("The image keeps changing; try again.")

    async def narrow(self, request: Request, known: Asset) -> Asset:
        """The asset under the rights of the request, if nobody may see more by them than before:
        those do not wait for the pixels. Raises as `set_access`.
        """
        if not known.servable or not _narrows(request, known):
            return known
        return await self.set_access(
            known.id, roles=request.roles, max_unauthorised=request.max_unauthorised
        )

    async def _set(
        self,
        before: Asset,
        sizes: ThumbnailSizes,
        roles: tuple[str, ...] | None,
        max_unauthorised: int | None,
    ) -> Asset | None:
        """The asset with its new rights; None when its thumbnails were replaced meanwhile."""
        assets = self._catalog.assets
        old = before.thumbnails_version
        try:
            if not old or sizes == before.thumbnails:
                return await assets.set_access(
                    before.id,
                    roles=roles,
                    max_unauthorised=max_unauthorised,
                    thumbnails=sizes,
                    filed=(old, old),
                )
            version = Version(before.id, await assets.next_version(), None)
            rows = await self._catalog.objects.of(before.id)
            held = [row for row in rows if row.version == old and row.object.kind == "thumbnail"]
            async with (
                self._one,
                # Held, so that nobody takes the copies for those of somebody dead.
                self._catalog.exclusive(filing_lock(before.id)),
                self._publisher.refiled(version, held, sizes) as (there, objects),
            ):
                return await assets.set_access(
                    before.id,
                    roles=roles,
                    max_unauthorised=max_unauthorised,
                    thumbnails=there,
                    filed=(old, version.number),
                    settlement=Settlement(objects),
                )
        except Conflict:
            return None

    async def _sizes_of(self, asset: Asset) -> list[Dimensions]:
        if asset.thumbnails_version or not asset.servable:
            return list(asset.thumbnails.all())
        policies = await self._conversions.policies_of(asset)
        return sizes_for(asset.dimensions, policies.thumbnails)


def filing_lock(asset_id: AssetId) -> str:
    """Return the name of the lock that whoever files the asset's thumbnails anew holds."""
    return f"filing {asset_id}"


def _narrows(request: Request, known: Asset) -> bool:
    roles = known.roles if request.roles is None else request.roles
    limit = known.max_unauthorised if request.max_unauthorised is None else request.max_unauthorised
    if (roles, limit) == (known.roles, known.max_unauthorised):
        return False
    edge, before = public_edge(roles, limit), known.public_edge
    opens = before is not None and (edge is None or edge > before)
    return not opens and (not known.roles or (bool(roles) and set(roles) <= set(known.roles)))
