"""Assets in the catalogue: read whole, changed in transactions that tell every process (`NOTIFY`)
when they commit.

A version is taken from one sequence and never used twice. What completes or fails a version does
so only while it is still the asset's own; somebody who was overtaken is told so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg

from orchestrator.catalog.asset_accounting import NOTHING, settle
from orchestrator.catalog.asset_transaction import (
    WHERE,
    key,
    locked,
    next_version,
    notified,
    upsert,
)
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.rows import COLUMNS, asset_of, is_storable, sizes_row, source_row
from orchestrator.catalog.values import AssetDraft, Deleted, Registered, Settlement
from orchestrator.errors import (
    AssetNotFound,
    Conflict,
    InvalidImageRequest,
    InvalidInput,
)
from orchestrator.model import (
    MAX_ASSET_ID_CHARS,
    Asset,
    AssetId,
    AssetState,
    Source,
    ThumbnailSizes,
)


class Assets:
    """The repository of assets. Every method raises CatalogUnavailable when the database does not
    answer.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, asset_id: AssetId) -> Asset | None:
        """The asset as it is now, or None."""
        row = await self._pool.fetchrow(
            f"SELECT {COLUMNS} FROM assets WHERE {WHERE}",  # noqa: S608  constants
            *key(asset_id),
        )
        return None if row is None else asset_of(row)

    async def page(
        self,
        after: AssetId | None = None,
        limit: int = 100,
        *,
        customer: int | None = None,
        space: int | None = None,
    ) -> list[Asset]:
        """At most `limit` assets in order of (customer, space, name), those after `after`."""
        values: list[int | str] = [*(key(after) if after else (-1, -1, "")), limit]
        within = ""
        for column, value in (("customer", customer), ("space", space)):
            if value is not None:  # as a plain comparison, so that the index bounds the walk
                values.append(value)
                within += f" AND {column} = ${len(values)}"
        rows = await self._pool.fetch(
            f"""SELECT {COLUMNS} FROM assets
                WHERE (customer, space, name) > ($1, $2, $3){within}
                ORDER BY customer, space, name LIMIT $4""",  # noqa: S608  constants
            *values,
        )
        return [asset_of(row) for row in rows]

    async def count(self) -> dict[str, int]:
        """How many assets there are in each state."""
        rows = await self._pool.fetch("SELECT state, count(*) AS number FROM assets GROUP BY state")
        return {row["state"]: row["number"] for row in rows}

    async def next_version(self) -> int:
        """A version number nobody else has or will have."""
        row = await self._pool.fetchrow("SELECT nextval('asset_versions') AS version")
        return int(row["version"]) if row is not None else 0

    async def register(
        self,
        draft: AssetDraft,
        *,
        thumbnails: ThumbnailSizes | None = None,
    ) -> Registered:
        """Record an original that can be answered from: a new version, state registered,
        thumbnails planned.

        The same original under the same policies keeps its version: nothing changes and `changed`
        is False.
        """
        async with self._pool.transaction() as connection:
            known = await locked(connection, draft.id)
            if known is not None and _is_same(known, draft):
                return Registered(known, changed=False)
            asset = await upsert(
                connection,
                draft,
                await next_version(connection),
                AssetState.REGISTERED,
                draft.source,
                thumbnails or ThumbnailSizes(),
                0,
            )
            if known is not None:
                await settle(connection, draft.id, asset)
            return Registered(asset, changed=True)

    async def publish(
        self,
        draft: AssetDraft,
        version: int,
        source: Source,
        thumbnails: ThumbnailSizes,
        settlement: Settlement = NOTHING,
    ) -> Asset | None:
        """Record a converted asset whose objects are stored under `version`; all old or all new
        to every reader.

        None when a later version has been recorded meanwhile, or the asset is gone. Raises
        Conflict, OverQuota as `settle`; nothing is changed then.
        """
        async with self._pool.transaction() as connection:
            known = await locked(connection, draft.id)
            if known is None or known.version > version:
                return None
            asset = await upsert(
                connection, draft, version, AssetState.READY, source, thumbnails, version
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
        """Flip a registered version to its converted source and real thumbnails, stored under
        `thumbnails_version` (0: the version itself); None when it is no longer current.

        Raises Conflict, OverQuota as `settle`; nothing is changed then.
        """
        async with self._pool.transaction() as connection:
            if await locked(connection, asset_id) is None:
                return None
            row = await connection.fetchrow(
                f"""UPDATE assets SET state = 'ready', error = '', source = $5, thumbnails = $6,
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
            asset = await notified(connection, asset_of(row))
            await settle(connection, asset_id, asset, settlement)
            return asset

    async def fail(self, asset_id: AssetId, version: int, error: str) -> Asset | None:
        """Record why a version could not be made; None when it is no longer current.

        What can be answered from its original still is; a failed asset without a source is not
        served. Its bytes count as unknown, so that an ingest of the same does not stop short.
        """
        return await self._change(
            f"""UPDATE assets SET state = 'failed', error = $5, finished = now(),
                    origin_fingerprint = '', origin_etag = '', origin_sha256 = ''
                WHERE {WHERE} AND version = $4 RETURNING {COLUMNS}""",  # noqa: S608  constants
            asset_id,
            version,
            error,
        )

    async def reopen(self, asset_id: AssetId, version: int) -> Asset | None:
        """Put a failed version back among those that wait to be converted; None when it is no
        longer current.
        """
        return await self._change(
            f"""UPDATE assets SET state = 'registered', error = ''
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
        """Change who may see what, under a new version, so that nothing derived before is given
        out again.

        None leaves a field as it is. `filed`: the thumbnails were stored under the first number and
        are now under the second. Raises AssetNotFound, Conflict when they were replaced meanwhile.
        """
        async with self._pool.transaction() as connection:
            known = await locked(connection, asset_id)
            if known is None:
                raise AssetNotFound(f"There is no asset {asset_id}.")
            if filed is not None and known.thumbnails_version != filed[0]:
                raise Conflict("The image was replaced meanwhile.")
            number = await next_version(connection)
            row = await connection.fetchrow(
                f"""UPDATE assets SET version = $4, updated = now(),
                        roles = coalesce($5::text[], roles),
                        max_unauthorised = coalesce($6::int, max_unauthorised),
                        thumbnails = coalesce($7::jsonb, thumbnails),
                        thumbnails_version = coalesce($8::bigint, thumbnails_version)
                    WHERE {WHERE} RETURNING {COLUMNS}""",  # noqa: S608  constants
                *key(asset_id),
                number,
                None if roles is None else list(roles),
                max_unauthorised,
                None if thumbnails is None else sizes_row(thumbnails),
                None if filed is None else filed[1],
            )
            if row is None:
                raise AssetNotFound(f"There is no asset {asset_id}.")
            asset = await notified(connection, asset_of(row))
            await settle(connection, asset_id, asset, settlement)
            return asset

    async def set_fields(self, asset_id: AssetId, **fields: Any) -> Asset:
        """Change descriptive fields (strings, numbers, tags, rights); the version stays. Raises
        AssetNotFound.
        """
        allowed = ("strings", "numbers", "tags", "rights")
        names = [name for name in allowed if name in fields]
        values = [list(fields[name]) if name != "rights" else fields[name] for name in names]
        changes = ", ".join(
            ["updated = now()", *(f"{name} = ${place}" for place, name in enumerate(names, 4))]
        )
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow(
                f"UPDATE assets SET {changes} WHERE {WHERE} RETURNING {COLUMNS}",  # noqa: S608
                *key(asset_id),
                *values,
            )
            if row is None:
                raise AssetNotFound(f"There is no asset {asset_id}.")
            return await notified(connection, asset_of(row))

    async def set_caching(
        self, asset_id: AssetId, *, pinned: bool | None = None, orchestrate: bool | None = None
    ) -> Asset:
        """Say what the caches may do with its files (None: as before); the version stays. Raises
        AssetNotFound.
        """
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow(
                f"""UPDATE assets SET pinned = coalesce($4::bool, pinned),
                        orchestrate = coalesce($5::bool, orchestrate)
                    WHERE {WHERE} RETURNING {COLUMNS}""",  # noqa: S608  constants
                *key(asset_id),
                pinned,
                orchestrate,
            )
            if row is None:
                raise AssetNotFound(f"There is no asset {asset_id}.")
            return await notified(connection, asset_of(row))

    async def pinned(self) -> list[AssetId]:
        """The ids of all pinned assets: few, and found by an index of their own."""
        rows = await self._pool.fetch("SELECT customer, space, name FROM assets WHERE pinned")
        return [AssetId(row["customer"], row["space"], row["name"]) for row in rows]

    async def delete(self, asset_id: AssetId) -> Deleted | None:
        """Forget the asset; what it was and what of it is in the store, or None when there was
        none.
        """
        async with self._pool.transaction() as connection:
            if await locked(connection, asset_id) is None:
                return None
            row = await connection.fetchrow(
                f"DELETE FROM assets WHERE {WHERE} RETURNING {COLUMNS}",  # noqa: S608  constants
                *key(asset_id),
            )
            if row is None:
                return None
            asset = await notified(connection, asset_of(row), gone=True)
            unwanted = await settle(connection, asset_id, None)
            return Deleted(asset, len(unwanted), sum(one.bytes for one in unwanted))

    async def resolve_alias(self, alias: str) -> AssetId | None:
        """The asset an alias stands for, or None."""
        if not is_storable(alias):
            return None
        row = await self._pool.fetchrow(
            "SELECT customer, space, name FROM aliases WHERE alias = $1", alias
        )
        return None if row is None else AssetId(row["customer"], row["space"], row["name"])

    async def aliases(self, asset_id: AssetId) -> list[str]:
        """The aliases of an asset, in order."""
        rows = await self._pool.fetch(
            f"SELECT alias FROM aliases WHERE {WHERE} ORDER BY alias",  # noqa: S608  constants
            *key(asset_id),
        )
        return [row["alias"] for row in rows]

    async def set_aliases(self, asset_id: AssetId, aliases: Iterable[str]) -> None:
        """Give the asset exactly these aliases.

        Raises AssetNotFound, Conflict when another asset has one of them, and InvalidInput for one
        that reads as an id or has not 1 to 220 characters.
        """
        wanted = sorted(set(aliases))
        for alias in wanted:
            _check_alias(alias)
        async with self._pool.transaction() as connection:
            known = await locked(connection, asset_id)
            if known is None:
                raise AssetNotFound(f"There is no asset {asset_id}.")
            await connection.execute(f"DELETE FROM aliases WHERE {WHERE}", *key(asset_id))  # noqa: S608
            try:
                await connection.executemany(
                    "INSERT INTO aliases VALUES ($1, $2, $3, $4)",
                    [(alias, *key(asset_id)) for alias in wanted],
                )
            except asyncpg.UniqueViolationError as error:
                raise Conflict("Another image has one of these aliases.") from error
            await notified(connection, known)

    async def _change(
        self, query: str, asset_id: AssetId, version: int, *values: object
    ) -> Asset | None:
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow(query, *key(asset_id), version, *values)
            return None if row is None else await notified(connection, asset_of(row))


def _is_same(known: Asset, draft: AssetDraft) -> bool:
    """True if this very original is what the asset was, or is being, made from, by the same
    policies.
    """
    return (
        draft.source is not None
        and known.origin == draft.origin
        and known.origin_fingerprint == (draft.origin_fingerprint or draft.source.fingerprint)
        and known.optimisation_policy == draft.optimisation_policy
        and known.thumbnail_policy == draft.thumbnail_policy
        and known.state is not AssetState.FAILED
        and _told_nothing_new(known, draft)
    )


def _told_nothing_new(known: Asset, draft: AssetDraft) -> bool:
    names = ("roles", "max_unauthorised", "strings", "numbers", "tags", "rights")
    return all(getattr(draft, name) in (None, getattr(known, name)) for name in names)


def _check_alias(alias: str) -> None:
    if not 0 < len(alias) <= MAX_ASSET_ID_CHARS or not is_storable(alias):
        raise InvalidInput("An alias is 1 to 220 characters.")
    try:
        AssetId.parse(alias)
    except InvalidImageRequest:
        return
    raise InvalidInput(f"{alias} reads as an image's own id; choose another alias.")
