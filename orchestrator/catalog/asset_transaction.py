"""The steps that changes of an asset share: lock it, take a version number, write the row, notify
every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from orchestrator.catalog.rows import COLUMNS, asset_of, sizes_row, source_row
from orchestrator.catalog.values import AssetDraft
from orchestrator.errors import CatalogUnavailable
from orchestrator.model import Asset, AssetId, AssetState, Source, ThumbnailSizes

ASSETS_CHANNEL = "orchestrator_assets"
GONE, PREFIX, ALIAS = 0, -1, -2
"""Values of a change notice in place of a version. GONE: drop everything cached for the asset.
PREFIX: drop it for all assets whose id begins with the text. ALIAS: the text is an alias that an
asset was given.
"""
WHERE = "customer = $1 AND space = $2 AND name = $3"


def key(asset_id: AssetId) -> tuple[int, int, str]:
    """The primary key, in the order of WHERE."""
    return asset_id.customer, asset_id.space, asset_id.name


async def lock_asset(connection: asyncpg.Connection, asset_id: AssetId) -> Asset | None:
    """Lock the asset until the transaction ends: no other one changes or creates it. Returns the
    asset, or None.

    A version number is taken only after this, so a later change always has a higher number.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", str(asset_id))
    row = await connection.fetchrow(
        f"SELECT {COLUMNS} FROM assets WHERE {WHERE} FOR UPDATE",  # noqa: S608  constants
        *key(asset_id),
    )
    return None if row is None else asset_of(row)


async def lock_assets(connection: asyncpg.Connection, assets: Sequence[AssetId]) -> None:
    """Lock those of the assets that exist, in the order of their keys."""
    ordered = sorted(assets)
    await connection.execute(
        """SELECT 1 FROM assets JOIN unnest($1::int[], $2::int[], $3::text[])
               AS wanted (customer, space, name) USING (customer, space, name)
           ORDER BY customer, space, name FOR UPDATE OF assets""",
        [each.customer for each in ordered],
        [each.space for each in ordered],
        [each.name for each in ordered],
    )


async def next_version(connection: asyncpg.Connection) -> int:
    """Take a version number, which no other caller gets."""
    return int(await connection.fetchval("SELECT nextval('asset_versions')"))


async def next_generation(connection: asyncpg.Connection) -> int:
    """Take the generation of a request that is accepted now. The caller has locked the asset."""
    return int(await connection.fetchval("SELECT nextval('generations')"))


async def write_version(
    connection: asyncpg.Connection,
    draft: AssetDraft,
    *,
    version: int,
    generation: int | None = None,
    state: AssetState,
    source: Source | None,
    thumbnails: ThumbnailSizes,
    thumbnails_version: int = 0,
) -> Asset:
    """Write the draft as the asset's new version. Fields that are None in the draft stay as they
    are. `generation` is given if this is an accepted request of its own.
    """
    fingerprint = draft.origin_fingerprint or (draft.source.fingerprint if draft.source else "")
    row = await connection.fetchrow(
        f"""INSERT INTO assets (customer, space, name, version, state, width, height, origin,
                origin_fingerprint, media_type, optimisation_policy, thumbnail_policy, roles,
                max_unauthorised, strings, numbers, tags, rights, thumbnails, thumbnails_version,
                source, origin_etag, batch, origin_sha256, generation, ingest_generation, made_with,
                finished, manifests)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
                coalesce($13::text[], '{{}}'), coalesce($14::int, -1),
                coalesce($15::text[], '{{"","",""}}'), coalesce($16::bigint[], '{{0,0,0}}'),
                coalesce($17::text[], '{{}}'), coalesce($18::text, ''), $19, $20, $21, $22, $23,
                $24, coalesce($25, 0), coalesce($25, 0), $26, now(),
                coalesce($27::text[], '{{}}'))
            ON CONFLICT (customer, space, name) DO UPDATE SET
                version = $4, state = $5, width = $6, height = $7, origin = $8,
                origin_fingerprint = $9, media_type = $10, optimisation_policy = $11,
                thumbnail_policy = $12,
                roles = coalesce($13::text[], assets.roles),
                max_unauthorised = coalesce($14::int, assets.max_unauthorised),
                strings = coalesce($15::text[], assets.strings),
                numbers = coalesce($16::bigint[], assets.numbers),
                tags = coalesce($17::text[], assets.tags),
                rights = coalesce($18::text, assets.rights),
                manifests = coalesce($27::text[], assets.manifests),
                thumbnails = $19, thumbnails_version = $20, source = $21, error = '',
                error_code = '', error_release = '',
                requested = CASE $5 WHEN 'ingesting' THEN assets.requested END, updated = now(),
                origin_etag = $22, origin_sha256 = $24,
                batch = coalesce($23, assets.batch),
                made_with = $26, generation = coalesce($25, assets.generation),
                ingest_generation = coalesce($25, assets.ingest_generation), finished = now()
            RETURNING {COLUMNS}""",  # noqa: S608  constants
        *key(draft.id),
        version,
        state,
        draft.width,
        draft.height,
        draft.origin,
        fingerprint,
        draft.media_type,
        draft.optimisation_policy,
        draft.thumbnail_policy,
        *optional_fields(draft),
        sizes_row(thumbnails),
        thumbnails_version,
        source_row(source),
        draft.origin_etag,
        draft.batch,
        draft.origin_sha256,
        generation,
        draft.made_with,
        _listed(draft.manifests),
    )
    if row is None:
        raise CatalogUnavailable("The catalogue did not record the asset. Try again.")
    return await notify_change(connection, asset_of(row))


def optional_fields(draft: AssetDraft) -> tuple[Any, ...]:
    """The draft's roles, max_unauthorised, strings, numbers, tags and rights; each is None if the
    draft leaves it unchanged.
    """
    return (
        _listed(draft.roles),
        draft.max_unauthorised,
        _listed(draft.strings),
        _listed(draft.numbers),
        _listed(draft.tags),
        draft.rights,
    )


def _listed(values: Sequence[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)


async def notify_change(
    connection: asyncpg.Connection, asset: Asset, *, is_gone: bool = False
) -> Asset:
    """Notify every process of the version when the transaction commits. Returns the asset."""
    await notify(connection, GONE if is_gone else asset.version, str(asset.id))
    return asset


async def notify(connection: asyncpg.Connection, version: int, text: str) -> None:
    """Send a change notice when the transaction commits (`changes.change_notices` reads it)."""
    await connection.execute("SELECT pg_notify($1, $2)", ASSETS_CHANNEL, f"{version} {text}")
