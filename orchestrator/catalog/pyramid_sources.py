"""The objects of the source bucket of which pyramids are made, and the keys of these pyramids.

Every change of an object that is accepted takes a generation, and a job with this generation does
the work. A key of the image bucket belongs to one source: no pyramid replaces that of another
source, whatever the order of events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import asyncpg

from orchestrator.catalog.connection import Pool
from orchestrator.catalog.pyramid_values import (
    SOURCE_STATES,
    Acceptance,
    PyramidSource,
    SourceChange,
    SourceObject,
    SourceState,
    StoredPyramid,
    judge,
)
from orchestrator.errors import Fault


class PyramidSources:
    """The repository of sources and pyramids. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def accept(
        self, connection: asyncpg.Connection, change: SourceChange, bases: Sequence[str]
    ) -> Acceptance:
        """Accept a change in the connection's transaction, unless it is known or outdated. The
        caller records the job and calls `assign_job`. `bases` are the begins of keys to choose
        from; the first one that no other source has is taken, and kept.
        """
        source = change.source
        await _lock(connection)
        row = await connection.fetchrow(_ONE, source.bucket, source.key)
        known = None if row is None else _source_of(row)
        verdict = judge(known, change)
        if known is not None and verdict != "accepted":
            return Acceptance(
                verdict,
                known.generation,
                known.base,
                is_pending=known.state == "queued",
                fault=known.fault if known.state == "failed" else None,
            )
        base = known.base if known is not None else ""
        is_new_removal = known is None and change.is_removed
        if not base and not change.is_removed:
            base = await _free_base(connection, source, bases)
        generation = await connection.fetchval(
            """INSERT INTO pyramid_sources AS known
                   (bucket, key, base, state, generation, etag, version, sequencer,
                    is_copyrighted)
               VALUES ($1, $2, nullif($3, ''), $4, nextval('generations'), $5, $6, $7,
                   coalesce($8, false))
               ON CONFLICT (bucket, key) DO UPDATE SET base = excluded.base,
                   state = excluded.state, generation = nextval('generations'), job = 0,
                   etag = excluded.etag, version = excluded.version,
                   sequencer = CASE excluded.sequencer WHEN '' THEN known.sequencer
                       ELSE excluded.sequencer END,
                   is_copyrighted = coalesce($8, known.is_copyrighted),
                   attempts = 0, fault = NULL, accepted = now(), finished = NULL
               RETURNING generation""",
            source.bucket,
            source.key,
            base,
            "removed" if is_new_removal else "queued",
            change.etag,
            change.version,
            change.sequencer,
            change.is_copyrighted,
        )
        return Acceptance("repeated" if is_new_removal else "accepted", int(generation), base)

    async def assign_job(
        self, connection: asyncpg.Connection, source: SourceObject, generation: int, job: int
    ) -> None:
        """Record which job does the work for an accepted change."""
        await connection.execute(
            """UPDATE pyramid_sources SET job = $4
               WHERE bucket = $1 AND key = $2 AND generation = $3""",
            source.bucket,
            source.key,
            generation,
            job,
        )

    async def get(self, source: SourceObject) -> PyramidSource | None:
        """The source, or None."""
        row = await self._pool.fetchrow(_ONE_SHOWN, source.bucket, source.key)
        return None if row is None else _source_of(row)

    async def page(
        self,
        limit: int,
        *,
        after: SourceObject | None = None,
        prefix: str = "",
        states: Sequence[SourceState] = SOURCE_STATES,
    ) -> list[PyramidSource]:
        """At most `limit` sources of all buckets that follow `after`, by key and bucket."""
        rows = await self._pool.fetch(
            f"""SELECT * FROM ({_SHOWN}) AS shown
                WHERE (key, bucket) > ($1, $2) AND starts_with(key, $3) AND state = ANY ($4::text[])
                ORDER BY key, bucket LIMIT $5""",  # noqa: S608  constants
            after.key if after else "",
            after.bucket if after else "",
            prefix,
            list(states),
            limit,
        )
        return [_source_of(row) for row in rows]

    async def claim_targets(
        self, source: SourceObject, candidates: Sequence[Sequence[str]], asset_of: Mapping[str, str]
    ) -> Sequence[str]:
        """Reserve the keys of the pyramids of a source for ever, in the order of the pages: the
        first of the `candidates` of which no key belongs to another source. `asset_of` has the
        asset of each key.
        """
        async with self._pool.transaction() as connection:
            await _lock(connection)
            for targets in candidates:
                if not await _is_free(connection, source, targets):
                    continue
                await connection.executemany(
                    """INSERT INTO pyramids (target, bucket, key, page, asset)
                       VALUES ($1, $2, $3, $4, $5)
                       ON CONFLICT (target) DO UPDATE SET page = excluded.page,
                           asset = excluded.asset""",
                    [
                        (target, source.bucket, source.key, page, asset_of[target])
                        for page, target in enumerate(targets)
                    ],
                )
                return targets
        raise AssertionError("the last candidate is unique")

    async def pyramids_of(self, source: SourceObject) -> list[StoredPyramid]:
        """Every pyramid that is or may be stored of a source, by page."""
        rows = await self._pool.fetch(
            "SELECT * FROM pyramids WHERE bucket = $1 AND key = $2 ORDER BY page, target",
            source.bucket,
            source.key,
        )
        return [
            StoredPyramid(**{name: row[name] for name in StoredPyramid.__dataclass_fields__})
            for row in rows
        ]

    async def finish(
        self,
        source: SourceObject,
        generation: int,
        *,
        etag: str,
        made_with: str,
        pyramids: Sequence[StoredPyramid],
        is_removed: bool = False,
    ) -> bool:
        """Record that exactly these pyramids of a source are stored. False when a later change was
        accepted.
        """
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow(
                """UPDATE pyramid_sources SET state = $4, etag = $5, made_with = $6, fault = NULL,
                       finished = now()
                   WHERE bucket = $1 AND key = $2 AND generation = $3 RETURNING 1""",
                source.bucket,
                source.key,
                generation,
                "removed" if is_removed else "done",
                etag,
                made_with,
            )
            if row is None:
                return False
            await connection.execute(
                """DELETE FROM pyramids WHERE bucket = $1 AND key = $2
                       AND target <> ALL ($3::text[])""",
                source.bucket,
                source.key,
                [each.target for each in pyramids],
            )
            await connection.executemany(
                """UPDATE pyramids SET etag = $2, width = $3, height = $4, levels = $5, bytes = $6,
                       stored = now() WHERE target = $1""",
                [
                    (each.target, each.etag, each.width, each.height, each.levels, each.bytes)
                    for each in pyramids
                ],
            )
        return True

    async def record_failure(
        self, source: SourceObject, generation: int, fault: Fault, attempts: int, *, is_final: bool
    ) -> None:
        """Record why an attempt failed. Nothing is recorded when a later change was accepted."""
        await self._pool.fetchrow(
            """UPDATE pyramid_sources SET fault = $4::jsonb, attempts = $5,
                   state = CASE WHEN $6 THEN 'failed' ELSE state END,
                   finished = CASE WHEN $6 THEN now() END
               WHERE bucket = $1 AND key = $2 AND generation = $3 RETURNING 1""",
            source.bucket,
            source.key,
            generation,
            asdict(fault),
            attempts,
            is_final,
        )


_SHOWN = """SELECT sources.bucket, sources.key, base, sources.generation, etag, version, sequencer,
        is_copyrighted, made_with, job, accepted, sources.finished,
        CASE WHEN sources.state NOT IN ('queued', 'failed') THEN sources.state
            WHEN jobs.state IN ('queued', 'running') THEN 'queued' ELSE 'failed' END AS state,
        greatest(sources.attempts, jobs.attempts) AS attempts,
        coalesce(sources.fault, jobs.fault) AS fault, jobs.state AS job_state,
        (SELECT count(*) FROM pyramids WHERE pyramids.bucket = sources.bucket
             AND pyramids.key = sources.key AND pyramids.etag <> '') AS pyramids
    FROM pyramid_sources AS sources LEFT JOIN jobs ON jobs.id = sources.job"""
"""Sources with the state of their jobs: the workers of a job may all have died, or a person may
have cancelled it, so that no handler recorded the failure; or a person has retried it.
"""
_ONE_SHOWN = f"{_SHOWN} WHERE sources.bucket = $1 AND sources.key = $2"
_ONE = f"{_ONE_SHOWN} FOR UPDATE OF sources"
_CANCELLED = Fault("cancelled", "work", retryable=True, detail="The job was cancelled or deleted.")


async def _lock(connection: asyncpg.Connection) -> None:
    """Until the transaction ends, no other one chooses keys."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('pyramids', 3))")


async def _free_base(
    connection: asyncpg.Connection, source: SourceObject, bases: Sequence[str]
) -> str:
    for base in bases:
        taken = await connection.fetchval(
            """SELECT EXISTS (SELECT FROM pyramid_sources WHERE base = $1)
                   OR EXISTS (SELECT FROM pyramids WHERE target = $1 || '.tif')""",
            base,
        )
        if not taken:
            return base
    raise AssertionError(f"the last base of {source.key} is unique")


async def _is_free(
    connection: asyncpg.Connection, source: SourceObject, targets: Sequence[str]
) -> bool:
    taken = await connection.fetchval(
        """SELECT EXISTS (SELECT FROM pyramids WHERE target = ANY ($3::text[])
                   AND (bucket, key) <> ($1, $2))
               OR EXISTS (SELECT FROM pyramid_sources
                   WHERE base = ANY ($4::text[]) AND (bucket, key) <> ($1, $2))""",
        source.bucket,
        source.key,
        list(targets),
        [target.removesuffix(".tif") for target in targets],
    )
    return not taken


def _source_of(row: asyncpg.Record) -> PyramidSource:
    fault = None if row["fault"] is None else Fault(**row["fault"])
    if row["state"] == "failed" and fault is None:
        fault = _CANCELLED
    return PyramidSource(
        source=SourceObject(row["bucket"], row["key"]),
        base=row["base"] or "",
        state=row["state"],
        generation=row["generation"],
        etag=row["etag"],
        version=row["version"],
        sequencer=row["sequencer"],
        is_copyrighted=row["is_copyrighted"],
        made_with=row["made_with"],
        attempts=row["attempts"],
        fault=fault,
        job=row["job"],
        accepted=row["accepted"],
        finished=row["finished"],
        pyramids=row["pyramids"],
    )
