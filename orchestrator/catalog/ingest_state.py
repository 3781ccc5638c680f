"""The state of an asset while it is ingested: accepted, failed or unchanged.

These changes do not touch the published version. A first ingest may be served from its original
until it ends; otherwise nothing that is served changes, so no process is notified.
"""

from __future__ import annotations

import asyncpg

from orchestrator.catalog.accepted_requests import Check, accept_ingests, read_as_recorded
from orchestrator.catalog.asset_accounting import settle
from orchestrator.catalog.asset_transaction import (
    WHERE,
    key,
    lock_asset,
    notify_change,
    write_version,
)
from orchestrator.catalog.attempts import insert_attempt
from orchestrator.catalog.change_jobs import ChangeRecorder
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.jobs import CONVERT
from orchestrator.catalog.rows import COLUMNS, asset_of, assets_of, sizes_row
from orchestrator.catalog.values import AssetDraft, Attempt, Settlement
from orchestrator.errors import CatalogUnavailable
from orchestrator.loop_turns import in_turns
from orchestrator.model import STORE, Asset, AssetId, AssetState, Source, ThumbnailSizes

MAX_ERROR_CHARS = 1000
_NOT_RECORDED = "The catalogue did not record the asset. Try again."
SERVED_STATE = """CASE WHEN state <> 'ingesting' THEN state WHEN source IS NULL THEN 'failed'
    WHEN thumbnails_version = 0 THEN 'registered' ELSE 'ready' END"""
"""The state of an asset when its ingest has ended; it depends on what can be served."""
_TEXT = """format('%s/%s/%s', assets.customer, assets.space,
    replace(replace(assets.name, '%', '%25'), '/', '%2F'))"""
"""An asset's id as in the column `jobs.asset` (`AssetId.__str__`)."""


class IngestStates:
    """The repository of ingest states. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool, changes: ChangeRecorder) -> None:
        self._pool = pool
        self._changes = changes

    async def accept(
        self,
        draft: AssetDraft,
        *,
        connection: asyncpg.Connection | None = None,
        check: Check | None = None,
        job: int | None = None,
    ) -> Asset:
        """Accept a request for an ingest: the state of the asset is ingesting, its error is
        cleared, and earlier requests are superseded. With `connection`, in its transaction.

        An asset that cannot be served takes all values of the draft. Another one keeps its origin,
        rights and description until the ingest publishes. `job` is the running job that this
        request comes with, if it was recorded without one: what was accepted since wins. Raises
        what `check` raises, Superseded, and as `accept_ingests`.
        """
        if connection is None:
            async with self._pool.transaction() as own:
                return await self.accept(draft, connection=own, check=check, job=job)
        known = await lock_asset(connection, draft.id)
        if check is not None:
            check(known)
        if job is not None:
            draft = await read_as_recorded(connection, known, draft, job)
        await accept_ingests(connection, [draft], draft.batch, job=job)
        accepted = await lock_asset(connection, draft.id)
        if accepted is None:
            raise CatalogUnavailable(_NOT_RECORDED)
        return accepted

    async def publish_original(
        self,
        draft: AssetDraft,
        version: int,
        source: Source,
        thumbnails: ThumbnailSizes,
        settlement: Settlement,
        *,
        generation: int,
    ) -> Asset | None:
        """Record the stored original of a first ingest: the asset is served from it until the
        ingest ends. `thumbnails` are planned, none exists yet.

        None when the asset can be served already, has another generation or was deleted. Raises as
        `settle`.
        """
        async with self._pool.transaction() as connection:
            known = await lock_asset(connection, draft.id)
            if known is None or known.generation != generation or known.servable:
                return None
            asset = await write_version(
                connection,
                draft,
                version=version,
                state=AssetState.INGESTING,
                source=source,
                thumbnails=thumbnails,
            )
            await connection.execute(
                f"UPDATE assets SET finished = NULL WHERE {WHERE}",  # noqa: S608  constants
                *key(draft.id),
            )
            await settle(connection, draft.id, asset, settlement)
            return asset

    async def record_failure(
        self, asset_id: AssetId, error: str, attempt: Attempt, *, generation: int
    ) -> Asset | None:
        """Record that the ingest of this generation failed, with its attempt. A version that was
        served before is still served, in its earlier state; an asset without one is failed. None
        when the ingest was superseded: nothing but the attempt is recorded then.
        """
        async with self._pool.transaction() as connection:
            await insert_attempt(connection, attempt)
            if not await _is_current(connection, asset_id, generation):
                return None
            await withdraw_original(connection, asset_id)
            code = attempt.fault.code if attempt.fault else ""
            row = await connection.fetchrow(
                f"""UPDATE assets SET state = {SERVED_STATE}, error = $4, error_code = $5,
                        finished = now()
                    WHERE {WHERE} RETURNING {COLUMNS}""",  # noqa: S608  constants
                *key(asset_id),
                error[:MAX_ERROR_CHARS],
                code,
            )
            asset = _asset(row)
            await self._changes.record(connection, "failed", asset, error)
            return asset

    async def withdraw(self, asset_id: AssetId, generation: int) -> bool:
        """Stop serving the original of a first ingest of this generation before the ingest ends.
        False when no original is served, or the ingest was superseded.
        """
        async with self._pool.transaction() as connection:
            if not await _is_current(connection, asset_id, generation):
                return False
            return await withdraw_original(connection, asset_id)

    async def record_unchanged(
        self,
        asset_id: AssetId,
        attempt: Attempt,
        origin: AssetDraft | None = None,
        *,
        generation: int,
    ) -> Asset | None:
        """Record that the original has not changed. `origin` holds the place where the same bytes
        are now and their ETag and fingerprint there; an empty one keeps the recorded value.

        `generation` is that of the asset when the caller applied what was requested. None when a
        later request has been accepted, or the asset was deleted.
        """
        values = ("", "", "")
        if origin is not None:
            values = (origin.origin, origin.origin_etag, origin.origin_fingerprint)
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow(
                f"""UPDATE assets SET state = {SERVED_STATE}, error = '', error_code = '',
                        finished = now(), requested = NULL,
                        origin = CASE WHEN $5 THEN $6 ELSE origin END,
                        origin_etag = CASE WHEN NOT $5 OR origin = $6 AND $7 = '' THEN origin_etag
                            ELSE $7 END,
                        origin_fingerprint = coalesce(nullif($8, ''), origin_fingerprint)
                    WHERE {WHERE} AND generation = $4 RETURNING {COLUMNS}""",  # noqa: S608  constants
                *key(asset_id),
                generation,
                origin is not None,
                *values,
            )
            if row is None:
                return None
            await insert_attempt(connection, attempt)
            return asset_of(row)

    async def find_stuck(
        self, older_s: float, limit: int = 100, *, only: AssetId | None = None
    ) -> list[Asset]:
        """Assets, or `only` this one, that have been in the state ingesting for `older_s` seconds
        and have no queued or running job.
        """
        values: list[object] = [older_s, limit]
        within = ""
        if only is not None:
            within = "AND customer = $3 AND space = $4 AND name = $5"
            values += key(only)
        rows = await self._pool.fetch(
            f"""SELECT {COLUMNS} FROM assets
                WHERE state = 'ingesting' AND declared < now() - make_interval(secs => $1)
                    AND NOT EXISTS (
                        SELECT 1 FROM jobs WHERE jobs.state IN ('queued', 'running')
                        AND jobs.asset = {_TEXT})
                    {within}
                ORDER BY declared LIMIT $2""",  # noqa: S608  constants
            *values,
        )
        return await assets_of(rows)

    async def find_unconverted(self, older_s: float, limit: int) -> list[tuple[Asset, bool]]:
        """Registered assets that no queued or running job will convert, changed longer ago than
        `older_s`, oldest first. The second value is True if a conversion job of the asset failed or
        was cancelled since its last change.
        """
        rows = await self._pool.fetch(
            f"""SELECT {COLUMNS}, EXISTS (
                        SELECT 1 FROM jobs WHERE jobs.asset = {_TEXT} AND jobs.kind = $3
                        AND jobs.state IN ('failed', 'cancelled')
                        AND jobs.finished >= assets.updated
                    ) AS has_failed
                FROM assets
                WHERE state = 'registered' AND updated <= now() - make_interval(secs => $1)
                    AND NOT EXISTS (
                        SELECT 1 FROM jobs WHERE jobs.state IN ('queued', 'running')
                        AND jobs.asset = {_TEXT})
                ORDER BY updated, customer, space, name LIMIT $2""",  # noqa: S608  constants
            older_s,
            limit,
            CONVERT,
        )
        return [(asset_of(row), row["has_failed"]) async for row in in_turns(rows)]


async def withdraw_original(connection: asyncpg.Connection, asset_id: AssetId) -> bool:
    """Stop serving the original of a first ingest that fails or was cancelled. False when none is
    served.
    """
    known = await lock_asset(connection, asset_id)
    if known is None or known.thumbnails_version or known.source is None:
        return False
    if not known.source.location.startswith(STORE):
        return False  # a file of a served folder: it is served without an ingest
    row = await connection.fetchrow(
        f"""UPDATE assets SET source = NULL, width = 0, height = 0, thumbnails = $4
            WHERE {WHERE} RETURNING {COLUMNS}""",  # noqa: S608  constants
        *key(asset_id),
        sizes_row(ThumbnailSizes()),
    )
    asset = await notify_change(connection, _asset(row), is_gone=True)
    await settle(connection, asset_id, asset)
    return True


async def _is_current(connection: asyncpg.Connection, asset_id: AssetId, generation: int) -> bool:
    known = await lock_asset(connection, asset_id)
    return known is not None and known.ingest_generation == generation


def _asset(row: asyncpg.Record | None) -> Asset:
    if row is None:
        raise CatalogUnavailable(_NOT_RECORDED)
    return asset_of(row)
