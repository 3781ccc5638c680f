"""Changes of an asset that need no ingest: who may see it, its description, its deletion.

Thumbnails are stored as open or auth according to the rights. When these change, the thumbnails are
copied under a new version number. A client that reads the version before still finds its
thumbnails; all keys change together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from orchestrator.catalog.accepted_requests import Check, Record
from orchestrator.catalog.asset_edits import AssetChange, Filing
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.values import Deletion, Settlement
from orchestrator.errors import AssetNotFound, Conflict, Superseded
from orchestrator.ingest.convert import Converter
from orchestrator.ingest.prepare import thumbnail_sizes
from orchestrator.ingest.publish import ObjectWriter, Version, split_by_access
from orchestrator.ingest.remove import Remover
from orchestrator.model import Asset, AssetId, Dimensions, is_narrower, public_edge

log = logging.getLogger(__name__)
_MAX_TRIES = 5


class AssetEditor:
    """Changes and deletes assets."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        writer: ObjectWriter,
        converter: Converter,
        remover: Remover,
    ) -> None:
        self._catalog = catalog
        self._writer = writer
        self._converter = converter
        self._remover = remover

    async def set_access(
        self,
        asset_id: AssetId,
        *,
        roles: tuple[str, ...] | None = None,
        max_unauthorised: int | None = None,
    ) -> Asset:
        """Accept a change of who may see how much of an asset; None keeps a field. Raises as
        `change`.
        """
        return await self.change(asset_id, lambda _: AssetChange(roles, max_unauthorised))

    async def set_fields(self, asset_id: AssetId, **fields: Any) -> Asset:
        """Accept a change of descriptive fields (strings, numbers, tags, manifests, rights). Raises
        as `change`.
        """
        return await self.change(asset_id, lambda _: AssetChange(**fields))

    async def change(
        self,
        asset_id: AssetId,
        change_of: Callable[[Asset], AssetChange],
        check: Check | None = None,
        record: Record | None = None,
    ) -> Asset:
        """Accept a change of the asset's rights and description. An ingest in progress continues
        and publishes them. `change_of` is called with the asset that is changed. If that changes
        nothing, nothing is recorded, and `record` is not called.

        Raises AssetNotFound, what `check` and `record` raise, Conflict if other requests keep
        changing the asset, StorageUnavailable.
        """
        for _ in range(_MAX_TRIES):
            before = await self._read(asset_id, check)
            change = change_of(before)
            if not before.is_pending:
                change = change.without_same(before)
            if not change.values:
                return before
            after = await self._try_change(before, change, check=check, record=record)
            if after is not None:
                return after
        raise _busy()

    async def narrow(self, asset_id: AssetId, generation: int) -> Asset:
        """Set the access that the accepted ingest asks for if it shows no client more than before.
        Returns the asset. Narrower rights are in force before the new pixels are; every ingest
        begins with this. Raises Superseded, and as `change`.
        """
        return await self._apply(asset_id, generation, is_narrowing=True)

    async def apply_requested(self, asset_id: AssetId, generation: int) -> Asset:
        """Give the asset the rights and the description that the accepted ingest asks for. Returns
        the asset. Raises Superseded, and as `change`.
        """
        return await self._apply(asset_id, generation, is_narrowing=False)

    async def delete(
        self, asset_id: AssetId, check: Check | None = None, record: Record | None = None
    ) -> Deletion:
        """Delete an asset and return what was deleted. Its queued and running jobs are superseded.
        A notification drops its cached files on every host. Its objects are removed after the grace
        period. An original that is served in place stays where it is.

        Raises AssetNotFound, and what `check` and `record` raise.
        """
        deleted = await self._catalog.edits.delete(asset_id, check, record)
        if deleted is None:
            raise _not_found(asset_id)
        await self._remover.remove_without_grace(asset_id)
        log.info(
            "asset deleted",
            extra={"asset": str(asset_id), "objects": deleted.objects, "bytes": deleted.bytes},
        )
        return deleted

    async def _apply(self, asset_id: AssetId, generation: int, *, is_narrowing: bool) -> Asset:
        for _ in range(_MAX_TRIES):
            before = await self._catalog.assets.get(asset_id)
            if before is None or before.ingest_generation != generation:
                raise Superseded
            requested = AssetChange.requested_of(before)
            if is_narrowing:
                requested = requested.access
                now = before.as_requested()
                if not before.servable or not is_narrower(now.roles, now.max_unauthorised, before):
                    return before
            change = requested.without_same(before)
            if not change.values:
                return before
            after = await self._try_change(before, change, is_accepted=True)
            if after is not None:
                return after
        raise _busy()

    async def _read(self, asset_id: AssetId, check: Check | None) -> Asset:
        asset = await self._catalog.assets.get(asset_id)
        if check is not None:
            check(asset)
        if asset is None:
            raise _not_found(asset_id)
        return asset

    async def _try_change(
        self,
        before: Asset,
        change: AssetChange,
        *,
        is_accepted: bool = False,
        check: Check | None = None,
        record: Record | None = None,
    ) -> Asset | None:
        """Return the changed asset; None if it was changed since `before`."""
        sizes = before.thumbnails
        if change.has_access:
            roles = before.roles if change.roles is None else change.roles
            limit = change.max_unauthorised
            limit = before.max_unauthorised if limit is None else limit
            edge = public_edge(roles, limit)
            sizes = split_by_access(await self._thumbnail_sizes(before), edge)
        edits = self._catalog.edits
        stored_under = before.thumbnails_version
        try:
            if not stored_under or sizes == before.thumbnails:
                filing = Filing(before, sizes, stored_under)
                return await edits.change(
                    before.id,
                    change,
                    filing=filing,
                    is_accepted=is_accepted,
                    check=check,
                    record=record,
                )
            version = Version(before.id, await self._catalog.versions.next_version(), None)
            rows = [
                row
                for row in await self._catalog.objects.of(before.id)
                if row.version == stored_under and row.object.kind == "thumbnail"
            ]
            async with (
                # Without it, the sweeper would take the copies for those of a killed process.
                self._catalog.exclusive(filing_lock(before.id)),
                self._writer.copy_thumbnails(version, rows, sizes) as (existing, objects),
            ):
                return await edits.change(
                    before.id,
                    change,
                    filing=Filing(before, existing, version.number),
                    settlement=Settlement(objects),
                    is_accepted=is_accepted,
                    check=check,
                    record=record,
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


def _busy() -> Conflict:
    return Conflict("The asset is being changed by other requests. Try again.")
