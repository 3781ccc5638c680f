"""Assets: reading them, and what caches may do with them.

New versions are in `asset_versions.py`, changes by requests in `asset_edits.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.catalog.asset_transaction import WHERE, key, notify_change
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.rows import COLUMNS, asset_of, assets_of
from orchestrator.errors import AssetNotFound
from orchestrator.model import Asset, AssetId

_IS_PUBLIC = "(max_unauthorised > 0 OR (roles = '{}' AND max_unauthorised < 0))"
"""SQL: everyone may see something of the asset (`model.public_edge`)."""


class Assets:
    """The repository of assets. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, asset_id: AssetId) -> Asset | None:
        """The asset in its current version, or None."""
        row = await self._pool.fetchrow(
            f"SELECT {COLUMNS} FROM assets WHERE {WHERE}",  # noqa: S608  constants
            *key(asset_id),
        )
        return None if row is None else asset_of(row)

    async def get_many(self, assets: Sequence[AssetId]) -> dict[AssetId, Asset]:
        """Those of the assets that exist, by their ids."""
        if not assets:
            return {}
        rows = await self._pool.fetch(
            f"""SELECT {COLUMNS} FROM assets
                JOIN unnest($1::int[], $2::int[], $3::text[])
                    AS wanted (customer, space, name) USING (customer, space, name)""",  # noqa: S608
            [each.customer for each in assets],
            [each.space for each in assets],
            [each.name for each in assets],
        )
        found = await assets_of(rows)
        return {asset.id: asset for asset in found}

    async def page(
        self,
        after: AssetId | None = None,
        limit: int = 100,
        *,
        customer: int | None = None,
        space: int | None = None,
        public: bool = False,
    ) -> list[Asset]:
        """At most `limit` assets that follow `after` in the order (customer, space, name).
        `public`: only those of which everyone may see something.
        """
        values: list[int | str] = [*(key(after) if after else (-1, -1, "")), limit]
        within = ""
        for column, value in (("customer", customer), ("space", space)):
            if value is not None:  # a plain comparison, so that the index limits the rows read
                values.append(value)
                within += f" AND {column} = ${len(values)}"
        if public:
            within += f" AND {_IS_PUBLIC}"
        rows = await self._pool.fetch(
            f"""SELECT {COLUMNS} FROM assets
                WHERE (customer, space, name) > ($1, $2, $3){within}
                ORDER BY customer, space, name LIMIT $4""",  # noqa: S608  constants
            *values,
        )
        return await assets_of(rows)

    async def neighbours(self, asset_id: AssetId) -> tuple[AssetId | None, AssetId | None]:
        """The assets before and after this one in the order of the names of its space, of those
        that everyone may see something of.
        """
        found: list[AssetId | None] = []
        for sign, order in (("<", "DESC"), (">", "ASC")):
            row = await self._pool.fetchrow(
                f"""SELECT name FROM assets
                    WHERE customer = $1 AND space = $2 AND name {sign} $3
                        AND source IS NOT NULL AND state <> 'failed'
                        AND {_IS_PUBLIC}
                    ORDER BY name {order} LIMIT 1""",  # noqa: S608  constants
                *key(asset_id),
            )
            found.append(
                None if row is None else AssetId(asset_id.customer, asset_id.space, row["name"])
            )
        return found[0], found[1]

    async def with_other_access(self, assets: Sequence[AssetId]) -> list[tuple[AssetId, int]]:
        """Those of the assets that are served with other rights than their accepted ingest asks
        for, with its generation.
        """
        rows = await self._pool.fetch(
            """SELECT customer, space, name, ingest_generation
               FROM assets JOIN unnest($1::int[], $2::int[], $3::text[])
                   AS wanted (customer, space, name) USING (customer, space, name)
               WHERE source IS NOT NULL AND state = 'ingesting'
                   AND (requested -> 'roles', requested -> 'max_unauthorised')
                       <> (to_jsonb(roles), to_jsonb(max_unauthorised))""",
            [each.customer for each in assets],
            [each.space for each in assets],
            [each.name for each in assets],
        )
        return [
            (AssetId(row["customer"], row["space"], row["name"]), row["ingest_generation"])
            for row in rows
        ]

    async def count(self) -> dict[str, int]:
        """The number of assets in each state."""
        rows = await self._pool.fetch("SELECT state, count(*) AS number FROM assets GROUP BY state")
        return {row["state"]: row["number"] for row in rows}

    async def pinned(self) -> list[AssetId]:
        """The ids of all pinned assets. They are few, and an index finds them."""
        rows = await self._pool.fetch("SELECT customer, space, name FROM assets WHERE pinned")
        return [AssetId(row["customer"], row["space"], row["name"]) for row in rows]

    async def set_caching(
        self, asset_id: AssetId, *, pinned: bool | None = None, orchestrate: bool | None = None
    ) -> Asset:
        """Set what the caches may do with the files of the asset; None leaves a value unchanged.
        The version stays. Raises AssetNotFound.
        """
        changes = (
            "pinned = coalesce($4::bool, pinned), orchestrate = coalesce($5::bool, orchestrate)"
        )
        return await self._update(asset_id, changes, pinned, orchestrate)

    async def _update(self, asset_id: AssetId, changes: str, *values: object) -> Asset:
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow(
                f"UPDATE assets SET {changes} WHERE {WHERE} RETURNING {COLUMNS}",  # noqa: S608
                *key(asset_id),
                *values,
            )
            if row is None:
                raise AssetNotFound(f"There is no asset {asset_id}.")
            return await notify_change(connection, asset_of(row))
