"""Accepted requests: each takes a generation from the database and decides what its asset becomes.

An asset has the generation of its last accepted request. What an accepted ingest will publish is
kept in `assets.requested`, and later changes are merged into it. Work for an ingest publishes only
while the asset has the generation that the work was accepted for, so nothing old undoes something
new. Every transaction locks assets first, in the order of their keys, then jobs, then batches.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import asyncpg

from orchestrator.catalog.asset_accounting import keep_uploads
from orchestrator.catalog.batches import MOVE
from orchestrator.catalog.values import AssetDraft
from orchestrator.errors import AssetNotFound, Superseded, fault_of
from orchestrator.loop_turns import in_turns
from orchestrator.model import Asset, AssetId, is_narrower

SUPERSEDED = fault_of(Superseded(), "request")
ENDED_NOTICE = "ended"
"""The payload of a notice on JOBS_CHANNEL: running jobs were ended by a request."""
INGEST_KINDS = ("ingest",)
ASSET_KINDS = ("ingest", "convert")
"""The kinds of jobs that change an asset."""
AT_ONCE = 500
"""Requests in one statement: many of them must not keep the event loop from other work."""
Check = Callable[[Asset | None], None]
"""Called with the asset as it is, while it is locked: raises an error to refuse the request."""
Record = Callable[[asyncpg.Connection], Awaitable[None]]
"""Records what belongs to a request, as the last step of the transaction that accepts it."""

_FIELDS = ("roles", "max_unauthorised", "strings", "numbers", "tags", "manifests", "rights")
_RECORDED = """jsonb_build_object('origin', assets.origin,
        'optimisation_policy', assets.optimisation_policy,
        'thumbnail_policy', assets.thumbnail_policy, 'roles', to_jsonb(assets.roles),
        'max_unauthorised', assets.max_unauthorised, 'strings', to_jsonb(assets.strings),
        'numbers', to_jsonb(assets.numbers), 'tags', to_jsonb(assets.tags),
        'manifests', to_jsonb(assets.manifests), 'rights', assets.rights)"""
"""What was published of the asset, in the form of the column `requested`."""
_REFUSED = """assets.state = 'failed' AND assets.thumbnails_version = 0
    AND (assets.error_code IN ('damaged', 'unsupported', 'not_an_image')
        OR assets.error_code <> '' AND assets.width = 0)"""
"""As Asset.refused."""
_ACCEPT = f"""INSERT INTO assets (customer, space, name, version, state, generation,
        ingest_generation, requested, batch, declared)
    SELECT customer, space, name, nextval('asset_versions'), 'ingesting', nextval('generations'), 0,
        requested, $5, now()
    FROM unnest($1::int[], $2::int[], $3::text[], $4::jsonb[])
        AS request (customer, space, name, requested)
    ORDER BY customer, space, name COLLATE "C"
    ON CONFLICT (customer, space, name) DO UPDATE SET state = 'ingesting',
        generation = nextval('generations'),  -- after the row is locked: in the order of acceptance
        requested = CASE WHEN assets.state = 'ingesting'
            THEN coalesce(assets.requested, {_RECORDED}) ELSE {_RECORDED} END || excluded.requested,
        source = CASE WHEN {_REFUSED} THEN NULL ELSE assets.source END,
        version = CASE WHEN assets.source IS NULL OR {_REFUSED}
            THEN nextval('asset_versions') ELSE assets.version END,
        error = '', error_code = '', finished = NULL, declared = now(),
        batch = coalesce(excluded.batch, assets.batch)"""  # noqa: S608  constants
_SETTLE = """UPDATE assets SET ingest_generation = generation
    FROM unnest($1::int[], $2::int[], $3::text[]) AS request (customer, space, name)
    WHERE (assets.customer, assets.space, assets.name)
        = (request.customer, request.space, request.name)
    RETURNING assets.customer, assets.space, assets.name, assets.generation, assets.source IS NULL
        AS is_empty, coalesce(requested ->> 'origin', '') AS origin"""
_SHOW = """UPDATE assets SET origin = requested ->> 'origin',
        optimisation_policy = coalesce(requested ->> 'optimisation_policy', ''),
        thumbnail_policy = coalesce(requested ->> 'thumbnail_policy', ''),
        roles = CASE WHEN requested ? 'roles'
            THEN ARRAY(SELECT jsonb_array_elements_text(requested -> 'roles')) ELSE roles END,
        max_unauthorised = coalesce((requested ->> 'max_unauthorised')::int, max_unauthorised),
        strings = CASE WHEN requested ? 'strings'
            THEN ARRAY(SELECT jsonb_array_elements_text(requested -> 'strings')) ELSE strings END,
        numbers = CASE WHEN requested ? 'numbers'
            THEN ARRAY(SELECT jsonb_array_elements_text(requested -> 'numbers')::bigint)
            ELSE numbers END,
        tags = CASE WHEN requested ? 'tags'
            THEN ARRAY(SELECT jsonb_array_elements_text(requested -> 'tags')) ELSE tags END,
        manifests = CASE WHEN requested ? 'manifests'
            THEN ARRAY(SELECT jsonb_array_elements_text(requested -> 'manifests'))
            ELSE manifests END,
        rights = coalesce(requested ->> 'rights', rights)
    FROM unnest($1::int[], $2::int[], $3::text[]) AS request (customer, space, name)
    WHERE (assets.customer, assets.space, assets.name)
        = (request.customer, request.space, request.name)"""
_SUPERSEDE = f"""WITH ended AS (
        UPDATE jobs SET state = 'superseded', finished = clock_timestamp(), heartbeat = NULL,
            fault = $2::jsonb
        WHERE asset = ANY ($1::text[]) AND kind = ANY ($3::text[])
            AND ($4::bigint IS NULL OR id < $4) AND state IN ('queued', 'running') RETURNING *
    ){MOVE.format(column="superseded")}
    SELECT count(*) FILTER (WHERE started IS NOT NULL) FROM ended"""  # noqa: S608  constants


async def accept_ingests(
    connection: asyncpg.Connection,
    drafts: Sequence[AssetDraft],
    batch: int | None = None,
    *,
    job: int | None = None,
) -> dict[AssetId, int]:
    """Accept requests to ingest different assets, in the connection's transaction. Returns the
    generation of each.

    Each asset is in the state ingesting, its error is cleared, and what waits or runs for an
    earlier request of it is superseded. An asset that cannot be served takes all values of its
    request. Another one keeps its origin, rights and description until the ingest publishes.

    `job` is a running job, recorded without a request, that accepts this one: it supersedes only
    those that were recorded before it. A draft without an origin keeps origin and policies of the
    request before. Raises AssetNotFound when there is none, OverQuota as `keep_uploads`.
    """
    generations: dict[AssetId, int] = {}
    ordered = sorted(drafts, key=lambda draft: draft.id)
    for start in range(0, len(ordered), AT_ONCE):
        some = ordered[start : start + AT_ONCE]
        keys = _keys([draft.id for draft in some])
        requested = [_requested(draft) async for draft in in_turns(some)]
        await connection.execute(_ACCEPT, *keys, requested, batch)
        rows = await connection.fetch(_SETTLE, *keys)
        empty = []
        for row in rows:
            asset_id = AssetId(row["customer"], row["space"], row["name"])
            if not row["origin"]:
                raise AssetNotFound(
                    f"There is no asset {asset_id}. Give `origin`, the address of its bytes."
                )
            generations[asset_id] = row["generation"]
            if row["is_empty"]:
                empty.append(asset_id)
        if empty:
            await connection.execute(_SHOW, *_keys(empty))
        await keep_uploads(connection, {draft.id: draft.origin for draft in some})
    if job is not None and ordered:
        accepted = ordered[0].id
        await connection.execute(
            "UPDATE jobs SET generation = $2, asset = $3 WHERE id = $1",
            job,
            generations[accepted],
            str(accepted),
        )
    await supersede_jobs(connection, list(generations), INGEST_KINDS, before=job)
    return generations


async def read_as_recorded(
    connection: asyncpg.Connection, known: Asset | None, draft: AssetDraft, job: int
) -> AssetDraft:
    """Return what is left of the request of a job that an earlier release recorded. It is older
    than every request with a generation: a later ingest replaces it, a later change keeps rights
    and description. Whether that was a change of rights is not recorded, so the rights of the job
    count if they are narrower.

    `known` is the locked asset. Raises Superseded.
    """
    if known is None or not known.generation:
        return draft
    if known.ingest_generation:
        is_of_this_or_earlier_job = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM jobs WHERE asset = $1 AND generation = $2 AND id <= $3)",
            str(known.id),
            known.ingest_generation,
            job,
        )
        if not is_of_this_or_earlier_job:
            raise Superseded
        if known.generation == known.ingest_generation:
            return draft
    now = known.as_requested()
    roles = now.roles if draft.roles is None else draft.roles
    limit = now.max_unauthorised if draft.max_unauthorised is None else draft.max_unauthorised
    left: dict[str, Any] = dict.fromkeys(_FIELDS)
    if is_narrower(roles, limit, now):
        left |= {"roles": draft.roles, "max_unauthorised": draft.max_unauthorised}
    return replace(draft, **left)


async def supersede_jobs(
    connection: asyncpg.Connection,
    assets: Sequence[AssetId],
    kinds: Sequence[str],
    *,
    before: int | None = None,
) -> None:
    """End the queued and running jobs of these assets as superseded, with `before` only those that
    were recorded before this job. The caller has locked the assets. Workers are notified if a job
    may be running.
    """
    names = [str(each) for each in assets]
    # One statement: it locks the batches of all these jobs in their order.
    has_run = await connection.fetchval(_SUPERSEDE, names, asdict(SUPERSEDED), list(kinds), before)
    if has_run:
        await notify_ended(connection)


async def notify_ended(connection: asyncpg.Connection) -> None:
    """Notify workers that running jobs were ended."""
    await connection.execute("SELECT pg_notify('orchestrator_jobs', $1)", ENDED_NOTICE)


def _keys(assets: Sequence[AssetId]) -> tuple[list[int], list[int], list[str]]:
    return (
        [each.customer for each in assets],
        [each.space for each in assets],
        [each.name for each in assets],
    )


def _requested(draft: AssetDraft) -> dict[str, Any]:
    """Return what the draft asks for; what it leaves out stays as it is."""
    asked: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value
        for name in _FIELDS
        if (value := getattr(draft, name)) is not None
    }
    policies = ("optimisation_policy", "thumbnail_policy")
    names = ("origin", *policies) if draft.origin else policies
    # An origin comes with its policies: "" is the default one. Without one the known ones stay.
    asked |= {name: getattr(draft, name) for name in names if draft.origin or getattr(draft, name)}
    return {**asked, "force": True} if draft.force else asked
