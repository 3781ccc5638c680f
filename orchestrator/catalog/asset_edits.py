"""Accepted requests that change or delete an asset without an ingest.

A change is also merged into what a waiting ingest will publish: the ingest does not undo it.
A deletion ends every job of the asset in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from orchestrator.catalog.accepted_requests import ASSET_KINDS, Check, Record, supersede_jobs
from orchestrator.catalog.asset_accounting import NOTHING, settle
from orchestrator.catalog.asset_transaction import (
    WHERE,
    key,
    lock_asset,
    next_generation,
    next_version,
    notify_change,
)
from orchestrator.catalog.change_jobs import ChangeRecorder
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.rows import COLUMNS, asset_of, sizes_row
from orchestrator.catalog.values import Deletion, Settlement
from orchestrator.errors import AssetNotFound, Conflict
from orchestrator.model import Asset, AssetId, ThumbnailSizes

_ACCESS = ("roles", "max_unauthorised")
_COLUMNS = (*_ACCESS, "strings", "numbers", "tags", "manifests", "rights")


@dataclass(frozen=True, slots=True)
class AssetChange:
    """New rights and a new description; None keeps a field."""

    roles: tuple[str, ...] | None = None
    max_unauthorised: int | None = None
    strings: tuple[str, str, str] | None = None
    numbers: tuple[int, int, int] | None = None
    tags: tuple[str, ...] | None = None
    manifests: tuple[str, ...] | None = None
    rights: str | None = None

    @classmethod
    def requested_of(cls, asset: Asset) -> AssetChange:
        """The change that the accepted ingest of the asset asks for."""
        now = asset.as_requested()
        return cls(**{name: getattr(now, name) for name in _COLUMNS})

    @property
    def access(self) -> AssetChange:
        """The rights alone."""
        return AssetChange(self.roles, self.max_unauthorised)

    @property
    def values(self) -> dict[str, Any]:
        """The fields that are given, as values of their columns."""
        given = {name: getattr(self, name) for name in _COLUMNS}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value is not None
        }

    @property
    def has_access(self) -> bool:
        """True if rights are given."""
        return self.roles is not None or self.max_unauthorised is not None

    def without_same(self, asset: Asset) -> AssetChange:
        """Leave out the fields that the asset has already."""
        same: dict[str, Any] = {
            name: None for name in _COLUMNS if getattr(self, name) == getattr(asset, name)
        }
        return replace(self, **same)


@dataclass(frozen=True, slots=True)
class Filing:
    """Where the thumbnails are after a change: `thumbnails` are stored under the number
    `stored_under`. It was planned for the asset `before`.
    """

    before: Asset
    thumbnails: ThumbnailSizes
    stored_under: int

    def applies_to(self, known: Asset) -> bool:
        """Return whether nothing has changed since."""
        before = self.before
        return (known.version, known.thumbnails_version, known.generation) == (
            before.version,
            before.thumbnails_version,
            before.generation,
        )


class AssetEdits:
    """The repository of changes and deletions. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool, changes: ChangeRecorder) -> None:
        self._pool = pool
        self._changes = changes

    async def change(
        self,
        asset_id: AssetId,
        change: AssetChange,
        *,
        filing: Filing | None = None,
        settlement: Settlement = NOTHING,
        is_accepted: bool = False,
        check: Check | None = None,
        record: Record | None = None,
    ) -> Asset:
        """Change the asset. Other rights have a new version: no cached response of an earlier
        version is sent again.

        `is_accepted`: the change is part of the accepted ingest; else it is a request of its own.
        Raises AssetNotFound, what `check` and `record` raise, and Conflict when the asset was
        changed since `filing` was planned.
        """
        async with self._pool.transaction() as connection:
            known = await _lock_checked(connection, asset_id, check)
            if known is None:
                raise AssetNotFound(f"There is no asset {asset_id}.")
            if filing is not None and not filing.applies_to(known):
                raise Conflict("The asset was changed in the meantime. Try again.")
            values: dict[str, Any] = change.values
            asked = None if is_accepted else dict(values)
            if change.has_access:
                values["version"] = await next_version(connection)
            if not is_accepted:
                values["generation"] = await next_generation(connection)
            if filing is not None:
                values["thumbnails"] = sizes_row(filing.thumbnails)
                values["thumbnails_version"] = filing.stored_under
            columns = "".join(f", {name} = ${n}" for n, name in enumerate(values, 5))
            row = await connection.fetchrow(
                f"""UPDATE assets SET updated = now(),
                        requested = requested || coalesce($4::jsonb, '{{}}'){columns}
                    WHERE {WHERE} RETURNING {COLUMNS}""",  # noqa: S608  names of columns
                *key(asset_id),
                asked,
                *values.values(),
            )
            if row is None:
                raise AssetNotFound(f"There is no asset {asset_id}.")
            asset = await notify_change(connection, asset_of(row))
            await settle(connection, asset_id, asset, settlement)
            await self._changes.record(connection, "changed", asset)
            if record is not None:
                await record(connection)
            return asset

    async def delete(
        self, asset_id: AssetId, check: Check | None = None, record: Record | None = None
    ) -> Deletion | None:
        """Delete the asset; its queued and running jobs are superseded. Returns what it was and
        what of it is in the store, or None when there is no such asset. Raises what `check` and
        `record` raise.
        """
        async with self._pool.transaction() as connection:
            known = await _lock_checked(connection, asset_id, check)
            if known is None:
                return None
            await connection.execute(
                f"DELETE FROM assets WHERE {WHERE}",  # noqa: S608  constants
                *key(asset_id),
            )
            await supersede_jobs(connection, [asset_id], ASSET_KINDS)
            asset = await notify_change(connection, known, is_gone=True)
            unwanted = await settle(connection, asset_id, None)
            await self._changes.record(connection, "deleted", asset)
            if record is not None:
                await record(connection)
            return Deletion(asset, len(unwanted), sum(each.bytes for each in unwanted))


async def _lock_checked(
    connection: asyncpg.Connection, asset_id: AssetId, check: Check | None
) -> Asset | None:
    """Lock the asset and return it as it is. Raises what `check` raises."""
    known = await lock_asset(connection, asset_id)
    if check is not None:
        check(known)
    return known
