"""Versions of assets: registered, published, completed or failed.

A version number is taken from one sequence and never used twice. A version is completed or failed
only while it is the current one of its asset, and published only while no later request for the
asset was accepted. Otherwise the method returns None.
"""

from __future__ import annotations

from orchestrator.catalog.accepted_requests import INGEST_KINDS, Check, supersede_jobs
from orchestrator.catalog.asset_accounting import NOTHING, settle
from orchestrator.catalog.asset_transaction import (
    WHERE,
    key,
    lock_asset,
    next_generation,
    next_version,
    notify_change,
    write_version,
)
from orchestrator.catalog.change_jobs import ChangeRecorder
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.rows import COLUMNS, asset_of, sizes_row, source_row
from orchestrator.catalog.values import AssetDraft, Registration, Settlement
from orchestrator.model import (
    UNREADABLE,
    Asset,
    AssetId,
    AssetState,
    Dimensions,
    Source,
    ThumbnailSizes,
)


class AssetVersions:
    """The repository of versions. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool, changes: ChangeRecorder) -> None:
        self._pool = pool
        self._changes = changes

    async def next_version(self) -> int:
        """Take a version number, which no other caller gets."""
        async with self._pool.connection() as connection:
            return await next_version(connection)

    async def register(
        self,
        draft: AssetDraft,
        *,
        thumbnails: ThumbnailSizes | None = None,
        check: Check | None = None,
        version: int | None = None,
        settlement: Settlement = NOTHING,
    ) -> Registration:
        """Record an original that can be served: a new version in the state registered, with the
        thumbnails that are planned. `version` is the number under which the objects of the
        settlement are stored, None if nothing is stored.

        If the asset has the same original and policies already, nothing changes: it keeps its
        version, and `changed` is False. Otherwise this is an accepted request of its own, unless an
        accepted ingest waits or runs: that one goes on, and replaces this version. Raises what
        `check` raises.
        """
        async with self._pool.transaction() as connection:
            known = await lock_asset(connection, draft.id)
            if check is not None:
                check(known)
            if known is not None and _is_same(known, draft):
                return Registration(known, changed=False)
            is_pending = known is not None and known.is_pending
            asset = await write_version(
                connection,
                draft,
                version=version or await next_version(connection),
                generation=None if is_pending else await next_generation(connection),
                state=AssetState.INGESTING if is_pending else AssetState.REGISTERED,
                source=draft.source,
                thumbnails=thumbnails or ThumbnailSizes(),
            )
            if known is not None or settlement is not NOTHING:
                await settle(connection, draft.id, asset, settlement)
            return Registration(asset, changed=True)

    async def publish(
        self,
        draft: AssetDraft,
        version: int,
        source: Source,
        thumbnails: ThumbnailSizes,
        settlement: Settlement = NOTHING,
        *,
        generation: int,
    ) -> Asset | None:
        """Record a converted asset whose objects are stored under `version`. Every reader sees
        either the old version or the new one.

        `generation` is that of the asset when the caller read what to publish. None when a later
        request has been accepted, or the asset was deleted. Raises Conflict, OverQuota as `settle`;
        nothing is changed then.
        """
        async with self._pool.transaction() as connection:
            known = await lock_asset(connection, draft.id)
            if known is None or known.generation != generation or known.version > version:
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
            await self._changes.record(connection, "ingested", asset)
            return asset

    async def complete(
        self,
        asset_id: AssetId,
        version: int,
        *,
        source: Source,
        thumbnails: ThumbnailSizes,
        thumbnails_version: int = 0,
        dimensions: Dimensions | None = None,
        made_with: str | None = None,
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
                f"""UPDATE assets
                    SET state = CASE state WHEN 'ingesting' THEN state ELSE 'ready' END,
                        error = '', error_code = '',
                        source = $5, thumbnails = $6,
                        thumbnails_version = $9, width = coalesce($7::int, width),
                        height = coalesce($8::int, height), finished = now(),
                        made_with = coalesce($10, made_with)
                    WHERE {WHERE} AND version = $4 RETURNING {COLUMNS}""",  # noqa: S608  constants
                *key(asset_id),
                version,
                source_row(source),
                sizes_row(thumbnails),
                None if dimensions is None else dimensions[0],
                None if dimensions is None else dimensions[1],
                thumbnails_version or version,
                made_with,
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
                WHERE {WHERE} AND version = $4 AND state <> 'ingesting'
                RETURNING {COLUMNS}""",  # noqa: S608  constants
            asset_id,
            version,
            error,
            code,
            release,
            code in UNREADABLE,
        )

    async def reopen(
        self, asset_id: AssetId, version: int, check: Check | None = None
    ) -> Asset | None:
        """Accept a request to convert a version again: it is registered. None when it is no longer
        current. Raises what `check` raises.
        """
        async with self._pool.transaction() as connection:
            known = await lock_asset(connection, asset_id)
            if check is not None:
                check(known)
            if known is None or known.version != version:
                return None
            await supersede_jobs(connection, [asset_id], INGEST_KINDS)
            row = await connection.fetchrow(
                f"""UPDATE assets SET state = 'registered', error = '', error_code = '',
                        generation = $4, ingest_generation = $4, requested = NULL
                    WHERE {WHERE} RETURNING {COLUMNS}""",  # noqa: S608  constants
                *key(asset_id),
                await next_generation(connection),
            )
            return None if row is None else await notify_change(connection, asset_of(row))

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
        and known.made_with in ("", draft.made_with)
        and known.state is not AssetState.FAILED
        and _has_same_fields(known, draft)
    )


def _has_same_fields(known: Asset, draft: AssetDraft) -> bool:
    names = ("roles", "max_unauthorised", "strings", "numbers", "tags", "manifests", "rights")
    return all(getattr(draft, name) in (None, getattr(known, name)) for name in names)
