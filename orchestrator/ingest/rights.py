"""Changes of an asset that need no ingest: who may see it, its description, its deletion.

Thumbnails are stored as open or auth according to the rights. When these change, the thumbnails are
copied under a new version number. A client that reads the version before still finds its
thumbnails; all keys change together.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.values import Deletion, Settlement
from orchestrator.errors import AssetNotFound, Conflict
from orchestrator.ingest.convert import Converter
from orchestrator.ingest.hooks import ChangeHooks
from orchestrator.ingest.prepare import thumbnail_sizes
from orchestrator.ingest.publish import ObjectWriter, Version, split_by_access
from orchestrator.ingest.register import Request
from orchestrator.ingest.remove import Remover
from orchestrator.model import Asset, AssetId, Dimensions, ThumbnailSizes, public_edge

log = logging.getLogger(__name__)
_MAX_TRIES = 5


class AssetEditor:
    """Changes and deletes assets, and reports it to the hooks."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        writer: ObjectWriter,
        converter: Converter,
        remover: Remover,
        hooks: ChangeHooks,
    ) -> None:
        self._catalog = catalog
        self._writer = writer
        self._converter = converter
        self._remover = remover
        self._hooks = hooks
        # The lock holds a database connection; conversions leave at least two.
        self._lock_slot = asyncio.Semaphore(1)

    async def set_access(
        self,
        asset_id: AssetId,
        *,
        roles: tuple[str, ...] | None = None,
        max_unauthorised: int | None = None,
    ) -> Asset:
        """Change who may see how much of an asset; None keeps a field.

        Raises AssetNotFound, Conflict if other requests keep changing the asset,
        StorageUnavailable.
        """
        for _ in range(_MAX_TRIES):
            before = await self._catalog.assets.get(asset_id)
            if before is None:
                raise _not_found(asset_id)
            new_roles = before.roles if roles is None else roles
            limit = before.max_unauthorised if max_unauthorised is None else max_unauthorised
            sizes = split_by_access(
                await self._thumbnail_sizes(before), public_edge(new_roles, limit)
            )
            after = await self._set_access(before, sizes, roles, max_unauthorised)
            if after is not None:
                self._hooks.enqueue("changed", after)
                return after
        raise Conflict("The asset is being changed by other requests. Try again.")

    async def narrow(self, request: Request, known: Asset) -> Asset:
        """Set the access that the request asks for if it shows no client more than before. Returns
        the asset. Narrower rights are in force before the new pixels are; every ingest begins with
        this. Raises as `set_access`.
        """
        if not known.servable or not _is_narrower(request, known):
            return known
        return await self.set_access(
            known.id, roles=request.roles, max_unauthorised=request.max_unauthorised
        )

    async def set_fields(self, asset_id: AssetId, **fields: Any) -> Asset:
        """Change descriptive fields (strings, numbers, tags, rights). An ingest in progress
        continues. Raises AssetNotFound.
        """
        asset = await self._catalog.assets.set_fields(asset_id, **fields)
        self._hooks.enqueue("changed", asset)
        return asset

    async def delete(self, asset_id: AssetId) -> Deletion:
        """Delete an asset and return what was deleted. A notification drops its cached files on
        every host. Its objects are removed after the grace period. An original that is served in
        place stays where it is.

        Raises AssetNotFound.
        """
        deleted = await self._catalog.assets.delete(asset_id)
        if deleted is None:
            raise _not_found(asset_id)
        await self._remover.remove_without_grace(asset_id)
        self._hooks.enqueue("deleted", deleted.asset)
        log.info(
            "asset deleted",
            extra={"asset": str(asset_id), "objects": deleted.objects, "bytes": deleted.bytes},
        )
        return deleted

    async def _set_access(
        self,
        before: Asset,
        sizes: ThumbnailSizes,
        roles: tuple[str, ...] | None,
        max_unauthorised: int | None,
    ) -> Asset | None:
        """Return the changed asset; None if its thumbnails were replaced since `before`."""
        versions = self._catalog.versions
        stored_under = before.thumbnails_version
        try:
            if not stored_under or sizes == before.thumbnails:
                return await versions.set_access(
                    before.id,
                    roles=roles,
                    max_unauthorised=max_unauthorised,
                    thumbnails=sizes,
                    filed=(stored_under, stored_under),
                )
            version = Version(before.id, await versions.next_version(), None)
            rows = [
                row
                for row in await self._catalog.objects.of(before.id)
                if row.version == stored_under and row.object.kind == "thumbnail"
            ]
            async with (
                self._lock_slot,
                # Without it, the sweeper would take the copies for those of a killed process.
                self._catalog.exclusive(filing_lock(before.id)),
                self._writer.copy_thumbnails(version, rows, sizes) as (existing, objects),
            ):
                return await versions.set_access(
                    before.id,
                    roles=roles,
                    max_unauthorised=max_unauthorised,
                    thumbnails=existing,
                    filed=(stored_under, version.number),
                    settlement=Settlement(objects),
                )
        except Conflict:
            return None

    async def _thumbnail_sizes(self, asset: Asset) -> list[Dimensions]:
        if asset.thumbnails_version or not asset.servable:
            return list(asset.thumbnails.all())
        recipes = await self._converter.load_recipes(asset)
        return thumbnail_sizes(asset.dimensions, recipes.thumbnails)


def filing_lock(asset_id: AssetId) -> str:
    """Return the name of the lock that a change of rights holds while it copies thumbnails."""
    return f"filing {asset_id}"


def _not_found(asset_id: AssetId) -> AssetNotFound:
    return AssetNotFound(f"There is no asset {asset_id}.")


def _is_narrower(request: Request, known: Asset) -> bool:
    roles = known.roles if request.roles is None else request.roles
    limit = known.max_unauthorised if request.max_unauthorised is None else request.max_unauthorised
    if (roles, limit) == (known.roles, known.max_unauthorised):
        return False
    edge, before = public_edge(roles, limit), known.public_edge
    opens = before is not None and (edge is None or edge > before)
    return not opens and (not known.roles or (bool(roles) and set(roles) <= set(known.roles)))
