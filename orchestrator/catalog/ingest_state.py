"""The state of an asset while it is ingested: declared, failed, unchanged or cancelled.

These changes do not touch the published version. A first ingest may be served from its original
until it ends; otherwise nothing that is served changes, so no process is notified.
"""

from __future__ import annotations

import asyncpg

from orchestrator.catalog.asset_accounting import settle
from orchestrator.catalog.asset_transaction import (
    WHERE,
    key,
    lock_asset,
    next_version,
    notify_change,
    optional_fields,
    write_version,
)
from orchestrator.catalog.attempts import insert_attempt
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.jobs import CONVERT
from orchestrator.catalog.rows import COLUMNS, asset_of, sizes_row
from orchestrator.catalog.values import AssetDraft, Attempt, Settlement
from orchestrator.errors import CatalogUnavailable
from orchestrator.model import STORE, Asset, AssetId, AssetState, Source, ThumbnailSizes

MAX_ERROR_CHARS = 1000
_SERVED = """CASE WHEN state <> 'ingesting' THEN state WHEN source IS NULL THEN 'failed'
    WHEN thumbnails_version = 0 THEN 'registered' ELSE 'ready' END"""
"""The state of an asset when its ingest has ended; it depends on what can be served."""
_TEXT = """format('%s/%s/%s', assets.customer, assets.space,
    replace(replace(assets.name, '%', '%25'), '/', '%2F'))"""
"""An asset's id as in the column `jobs.asset` (`AssetId.__str__`)."""
_CANCELLED_INGESTS = f"""state = 'ingesting'
    AND {_TEXT} IN (SELECT asset FROM jobs
        WHERE jobs.state = 'cancelled' AND (id = $1 OR jobs.batch = $2))
    AND NOT EXISTS (SELECT 1 FROM jobs
        WHERE jobs.state IN ('queued', 'running') AND jobs.asset = {_TEXT})"""  # noqa: S608  constants
"""Assets whose ingest was to be done by job $1 or by a job of batch $2, which is cancelled, and by
no other job.
"""
_CANCELLED = "The ingest was cancelled."


class IngestStates:
    """The repository of ingest states. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def declare(
        self, draft: AssetDraft, connection: asyncpg.Connection | None = None
    ) -> Asset:
        """Record that an ingest of the asset was requested: its state is ingesting, its error is
        cleared. With `connection`, in its transaction.

        An asset that cannot be served takes all values of the draft. Another one keeps its origin,
        rights and description until the ingest publishes.
        """
        if connection is None:
            async with self._pool.transaction() as own:
                return await self.declare(draft, own)
        known = await lock_asset(connection, draft.id)
        if known is None or not known.servable:
            return await _declare(connection, draft)
        row = await connection.fetchrow(
            f"""UPDATE assets SET state = 'ingesting', error = '', error_code = '', finished = NULL,
                    declared = now(), batch = coalesce($4, batch)
                WHERE {WHERE} RETURNING {COLUMNS}""",  # noqa: S608  constants
            *key(draft.id),
            draft.batch,
        )
        return _asset(row)

    async def publish_original(
        self,
        draft: AssetDraft,
        version: int,
        source: Source,
        thumbnails: ThumbnailSizes,
        settlement: Settlement,
    ) -> Asset | None:
        """Record the stored original of a first ingest: the asset is served from it until the
        ingest ends. `thumbnails` are planned, none exists yet.

        None when the asset can be served already, or was deleted. Raises as `settle`.

        """
        async with self._pool.transaction() as connection:
            known = await lock_asset(connection, draft.id)
            if known is None or known.servable or known.version > version:
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

    async def record_failure(self, asset_id: AssetId, error: str, attempt: Attempt) -> Asset | None:
        """Record that an ingest failed, with its attempt. A version that was served before is still
        served, in its earlier state; an asset without one is failed. None when the asset was
        deleted.
        """
        async with self._pool.transaction() as connection:
            await insert_attempt(connection, attempt)
            await _withdraw(connection, asset_id)
            code = attempt.fault.code if attempt.fault else ""
            return await self._end(connection, asset_id, error, code)

    async def record_retry(self, attempt: Attempt) -> None:
        """Record a failed attempt that will be retried: the asset stays in the state ingesting."""
        async with self._pool.connection() as connection:
            await insert_attempt(connection, attempt)

    async def record_unchanged(
        self, asset_id: AssetId, attempt: Attempt, origin: AssetDraft | None = None
    ) -> Asset | None:
        """Record that the original has not changed. `origin` holds the place where the same bytes
        are now and their ETag and fingerprint there; an empty one keeps the recorded value. None
        when the asset was deleted.
        """
        async with self._pool.transaction() as connection:
            await insert_attempt(connection, attempt)
            if origin is not None:
                await connection.execute(
                    f"""UPDATE assets SET origin = $4,
                            origin_etag = CASE WHEN origin = $4 AND $5 = '' THEN origin_etag
                                ELSE $5 END,
                            origin_fingerprint = coalesce(nullif($6, ''), origin_fingerprint)
                        WHERE {WHERE}""",  # noqa: S608  constants
                    *key(asset_id),
                    origin.origin,
                    origin.origin_etag,
                    origin.origin_fingerprint,
                )
            return await self._end(connection, asset_id, "")

    async def cancel(self, *, job: int | None = None, batch: int | None = None) -> int:
        """End the ingests of this cancelled job, or of the cancelled jobs of this batch, that no
        other job will do; returns how many. An asset that was served from its original is not
        served any more.
        """
        rows = await self._pool.fetch(
            f"""UPDATE assets SET state = {_SERVED}, error = $3, error_code = '', finished = now()
                WHERE {_CANCELLED_INGESTS} AND (source IS NULL OR thumbnails_version > 0)
                RETURNING name""",  # noqa: S608  constants
            job,
            batch,
            _CANCELLED,
        )
        served = await self._pool.fetch(
            f"SELECT customer, space, name FROM assets WHERE {_CANCELLED_INGESTS}",  # noqa: S608  constants
            job,
            batch,
        )
        ended = [
            await self._cancel_served(
                AssetId(row["customer"], row["space"], row["name"]), job, batch
            )
            for row in served
        ]
        return len(rows) + sum(ended)

    async def _cancel_served(self, asset_id: AssetId, job: int | None, batch: int | None) -> bool:
        async with self._pool.transaction() as connection:
            await lock_asset(connection, asset_id)
            is_cancelled = await connection.fetchval(
                f"""SELECT 1 FROM assets
                    WHERE {_CANCELLED_INGESTS} AND customer = $3 AND space = $4 AND name = $5""",  # noqa: S608
                job,
                batch,
                *key(asset_id),
            )
            if is_cancelled is None:
                return False
            await _withdraw(connection, asset_id)
            return await self._end(connection, asset_id, _CANCELLED) is not None

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
        return [asset_of(row) for row in rows]

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
        return [(asset_of(row), row["has_failed"]) for row in rows]

    async def _end(
        self, connection: asyncpg.Connection, asset_id: AssetId, error: str, code: str = ""
    ) -> Asset | None:
        row = await connection.fetchrow(
            f"""UPDATE assets SET state = {_SERVED}, error = $4, error_code = $5, finished = now()
                WHERE {WHERE} RETURNING {COLUMNS}""",  # noqa: S608  constants
            *key(asset_id),
            error[:MAX_ERROR_CHARS],
            code,
        )
        return None if row is None else asset_of(row)


async def _withdraw(connection: asyncpg.Connection, asset_id: AssetId) -> None:
    """Stop serving the original of a first ingest that failed or was cancelled."""
    known = await lock_asset(connection, asset_id)
    if known is None or known.thumbnails_version or known.source is None:
        return
    if not known.source.location.startswith(STORE):
        return  # a file of a served folder: it is served without an ingest
    row = await connection.fetchrow(
        f"""UPDATE assets SET source = NULL, width = 0, height = 0, thumbnails = $4
            WHERE {WHERE} RETURNING {COLUMNS}""",  # noqa: S608  constants
        *key(asset_id),
        sizes_row(ThumbnailSizes()),
    )
    asset = await notify_change(connection, _asset(row), is_gone=True)
    await settle(connection, asset_id, asset)


async def _declare(connection: asyncpg.Connection, draft: AssetDraft) -> Asset:
    # A new version, so that a running ingest notices that other rights were requested.
    version = await next_version(connection)
    row = await connection.fetchrow(
        f"""INSERT INTO assets (customer, space, name, version, state, origin,
                optimisation_policy, thumbnail_policy, roles, max_unauthorised, strings, numbers,
                tags, rights, batch, declared)
            VALUES ($1, $2, $3, $4, 'ingesting', $5, $6, $7,
                coalesce($8::text[], '{{}}'), coalesce($9::int, -1),
                coalesce($10::text[], '{{"","",""}}'), coalesce($11::bigint[], '{{0,0,0}}'),
                coalesce($12::text[], '{{}}'), coalesce($13::text, ''), $14, now())
            ON CONFLICT (customer, space, name) DO UPDATE SET version = $4, state = 'ingesting',
                error = '', error_code = '', source = NULL, finished = NULL,
                origin = $5, optimisation_policy = $6,
                thumbnail_policy = $7,
                roles = coalesce($8::text[], assets.roles),
                max_unauthorised = coalesce($9::int, assets.max_unauthorised),
                strings = coalesce($10::text[], assets.strings),
                numbers = coalesce($11::bigint[], assets.numbers),
                tags = coalesce($12::text[], assets.tags),
                rights = coalesce($13::text, assets.rights),
                batch = coalesce($14, assets.batch), declared = now()
            RETURNING {COLUMNS}""",  # noqa: S608  constants
        *key(draft.id),
        version,
        draft.origin,
        draft.optimisation_policy,
        draft.thumbnail_policy,
        *optional_fields(draft),
        draft.batch,
    )
    return _asset(row)


def _asset(row: asyncpg.Record | None) -> Asset:
    if row is None:
        raise CatalogUnavailable("The catalogue did not record the asset. Try again.")
    return asset_of(row)
