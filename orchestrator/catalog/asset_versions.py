"""Versions of assets: registered, published, completed, failed, or replaced by a change of rights.

A version number is taken from one sequence and never used twice. A version is completed or failed
only while it is the current one of its asset. Otherwise the method returns None: a later version
has replaced it.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.catalog.asset_accounting import NOTHING, settle
from orchestrator.catalog.asset_transaction import (
    WHERE,
    key,
    lock_asset,
    next_version,
    notify_change,
    write_version,
)
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.rows import COLUMNS, asset_of, sizes_row, source_row
from orchestrator.catalog.values import AssetDraft, Registration, Settlement
from orchestrator.errors import AssetNotFound, Conflict
from orchestrator.model import UNREADABLE, Asset, AssetId, AssetState, Source, ThumbnailSizes


class AssetVersions:
    """The repository of versions. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def next_version(self) -> int:
        """Take a version number, which no other caller gets."""
        async with self._pool.connection() as connection:
            return await next_version(connection)

    async def register(
        self, draft: AssetDraft, *, thumbnails: ThumbnailSizes | None = None
    ) -> Registration:
        """Record an original that can be served: a new version in the state registered, with the
        thumbnails that are planned.

        If the asset has the same original and policies already, nothing changes: it keeps its
        version, and `changed` is False.
        """
        async with self._pool.transaction() as connection:
            known = await lock_asset(connection, draft.id)
            if known is not None and _is_same(known, draft):
                return Registration(known, changed=False)
            asset = await write_version(
                connection,
                draft,
                version=await next_version(connection),
                state=AssetState.REGISTERED,
                source=draft.source,
                thumbnails=thumbnails or ThumbnailSizes(),
            )
            if known is not None:
                await settle(connection, draft.id, asset)
            return Registration(asset, changed=True)

    async def publish(
        self,
        draft: AssetDraft,
        version: int,
        source: Source,
        thumbnails: ThumbnailSizes,
        settlement: Settlement = NOTHING,
    ) -> Asset | None:
        """Record a converted asset whose objects are stored under `version`. Every reader sees
        either the old version or the new one.

        None when a later version has been recorded, or the asset was deleted. Raises Conflict,
        OverQuota as `settle`; nothing is changed then.
        """
        async with self._pool.transaction() as connection:
            known = await lock_asset(connection, draft.id)
            if known is None or known.version > version:
                return None
            asset = await write_version(
                connection,
                draft,
                version=version,
                state=AssetState.READY,
                source=source,
                thumbnails=thumbnails,
                thumbnails_version=version,
            )
            await settle(connection, draft.id, asset, settlement)
            return asset

    async def complete(
        self,
        asset_id: AssetId,
        version: int,
        *,
        source: Source,
        thumbnails: ThumbnailSizes,
        thumbnails_version: int = 0,
        width: int | None = None,
        height: int | None = None,
        settlement: Settlement = NOTHING,
    ) -> Asset | None:
        """Give a registered version its converted source and its thumbnails, stored under
        `thumbnails_version` (0: under the version itself).

        None when the version is no longer current. Raises Conflict, OverQuota as `settle`; nothing
        is changed then.
        """
        async with self._pool.transaction() as connection:
            if await lock_asset(connection, asset_id) is None:
                return None
            row = await connection.fetchrow(
                f"""UPDATE assets SET state = 'ready', error = '', error_code = '',
                        source = $5, thumbnails = $6,
                        thumbnails_version = $9, width = coalesce($7::int, width),
                        height = coalesce($8::int, height), finished = now()
                    WHERE {WHERE} AND version = $4 RETURNING {COLUMNS}""",  # noqa: S608  constants
                *key(asset_id),
                version,
                source_row(source),
                sizes_row(thumbnails),
                width,
                height,
                thumbnails_version or version,
            )
            if row is None:
                return None
            asset = await notify_change(connection, asset_of(row))
            await settle(connection, asset_id, asset, settlement)
            return asset

    async def fail(
        self, asset_id: AssetId, version: int, error: str, *, code: str = "", release: str = ""
    ) -> Asset | None:
        """Record why a version could not be converted, and the release that found it. None when it
        is no longer current.

        An asset whose original can be served still is (`Asset.refused`). The fingerprints of the
        original are cleared, so that an ingest of the same bytes does not stop as unchanged;
        a refused one keeps that of its file, which shows when the file is replaced.
        """
        return await self._set_state(
            f"""UPDATE assets SET state = 'failed', error = $5, error_code = $6,
                    error_release = $7, finished = now(), origin_etag = '', origin_sha256 = '',
                    origin_fingerprint = CASE WHEN $8 THEN origin_fingerprint ELSE '' END
                WHERE {WHERE} AND version = $4 RETURNING {COLUMNS}""",  # noqa: S608  constants
            asset_id,
            version,
            error,
            code,
            release,
            code in UNREADABLE,
        )

    async def reopen(self, asset_id: AssetId, version: int) -> Asset | None:
        """Set a failed version back to registered. None when it is no longer current."""
        return await self._set_state(
            f"""UPDATE assets SET state = 'registered', error = '', error_code = ''
                WHERE {WHERE} AND version = $4 RETURNING {COLUMNS}""",  # noqa: S608  constants
            asset_id,
            version,
        )

    async def set_access(
        self,
        asset_id: AssetId,
        *,
        roles: Sequence[str] | None = None,
        max_unauthorised: int | None = None,
        thumbnails: ThumbnailSizes | None = None,
        filed: tuple[int, int] | None = None,
        settlement: Settlement = NOTHING,
    ) -> Asset:
        """Change who may see the asset, under a new version: no cached response of an earlier
        version is sent again.

        None leaves a field unchanged. `filed`: the thumbnails were stored under the first number
        and are now stored under the second. Raises AssetNotFound; Conflict when the thumbnails were
        replaced in the meantime.
        """
        async with self._pool.transaction() as connection:
            known = await lock_asset(connection, asset_id)
            if known is None:
                raise AssetNotFound(f"There is no asset {asset_id}.")
            if filed is not None and known.thumbnails_version != filed[0]:
                raise Conflict("The asset was replaced in the meantime. Try again.")
            row = await connection.fetchrow(
                f"""UPDATE assets SET version = $4, updated = now(),
                        roles = coalesce($5::text[], roles),
                        max_unauthorised = coalesce($6::int, max_unauthorised),
                        thumbnails = coalesce($7::jsonb, thumbnails),
                        thumbnails_version = coalesce($8::bigint, thumbnails_version)
                    WHERE {WHERE} RETURNING {COLUMNS}""",  # noqa: S608  constants
                *key(asset_id),
                await next_version(connection),
                None if roles is None else list(roles),
                max_unauthorised,
                None if thumbnails is None else sizes_row(thumbnails),
                None if filed is None else filed[1],
            )
            if row is None:
                raise AssetNotFound(f"There is no asset {asset_id}.")
            asset = await notify_change(connection, asset_of(row))
            await settle(connection, asset_id, asset, settlement)
            return asset

    async def _set_state(
        self, query: str, asset_id: AssetId, version: int, *values: object
    ) -> Asset | None:
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow(query, *key(asset_id), version, *values)
            return None if row is None else await notify_change(connection, asset_of(row))


def _is_same(known: Asset, draft: AssetDraft) -> bool:
    """True if the asset was converted, or waits to be, from this very original by the same
    policies, and the draft changes nothing else.
    """
    return (
        draft.source is not None
        and known.origin == draft.origin
        and known.origin_fingerprint == (draft.origin_fingerprint or draft.source.fingerprint)
        and known.optimisation_policy == draft.optimisation_policy
        and known.thumbnail_policy == draft.thumbnail_policy
        and known.state is not AssetState.FAILED
        and _has_same_fields(known, draft)
    )


def _has_same_fields(known: Asset, draft: AssetDraft) -> bool:
    names = ("roles", "max_unauthorised", "strings", "numbers", "tags", "rights")
    return all(getattr(draft, name) in (None, getattr(known, name)) for name in names)
