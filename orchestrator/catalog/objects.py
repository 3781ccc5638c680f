"""The ledger of objects: every object there is, or may be, in the store, entered before it is
written.

A key is written once in its life, so removing what is unwanted can never take what somebody has
just written. `writing` rows become `live` in the transaction that makes their asset name them
(`settling.py`), or `unwanted`; an unwanted row is forgotten after its object is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import asyncpg

from orchestrator.catalog.asset_transaction import WHERE, key
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.values import LedgerRow, StoredObject
from orchestrator.errors import Conflict
from orchestrator.model import AssetId


class Objects:
    """The repository of stored objects. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def enter(self, asset_id: AssetId, version: int, objects: Sequence[StoredObject]) -> None:
        """Enter objects about to be written under the number `version`, which nobody had before.

        Raises Conflict when one of the keys is in the ledger already.
        """
        try:
            await self._write(asset_id, version, objects, "writing", "")
        except asyncpg.UniqueViolationError as error:
            raise Conflict("An object of this name was written before.") from error

    async def discard(
        self, asset_id: AssetId, version: int, objects: Sequence[StoredObject]
    ) -> None:
        """Say that objects, entered and perhaps written, are not wanted; live ones stay.

        A row that is gone is made again: who was taken for dead may have written after its rows
        were forgotten.
        """
        again = """ON CONFLICT (key) DO UPDATE SET state = 'unwanted', since = now()
                   WHERE stored_objects.state = 'writing'"""
        await self._write(asset_id, version, objects, "unwanted", again)

    async def writers(self, older_s: float, limit: int = 1000) -> list[AssetId]:
        """Assets with objects that have been `writing` for longer than this."""
        rows = await self._pool.fetch(
            """SELECT DISTINCT customer, space, name FROM stored_objects
               WHERE state = 'writing' AND since < now() - make_interval(secs => $1) LIMIT $2""",
            older_s,
            limit,
        )
        return [AssetId(row["customer"], row["space"], row["name"]) for row in rows]

    async def abandon(self, asset_id: AssetId, older_s: float) -> int:
        """Make what has been `writing` for longer unwanted; returns how many there were. The caller
        knows that nobody writes for this asset.
        """
        rows = await self._pool.fetch(
            f"""UPDATE stored_objects SET state = 'unwanted', since = now()
                WHERE {WHERE} AND state = 'writing'
                    AND since < now() - make_interval(secs => $4) RETURNING key""",  # noqa: S608
            *key(asset_id),
            older_s,
        )
        return len(rows)

    async def unwanted(
        self, older_s: float, limit: int = 1000, *, asset_id: AssetId | None = None
    ) -> list[str]:
        """Keys nobody has wanted for this long, the longest first; of one asset, or of all."""
        values: list[object] = [older_s, limit]
        within = ""
        if asset_id is not None:
            within = "AND customer = $3 AND space = $4 AND name = $5"
            values += key(asset_id)
        rows = await self._pool.fetch(
            f"""SELECT key FROM stored_objects
                WHERE state = 'unwanted' AND since <= now() - make_interval(secs => $1) {within}
                ORDER BY since LIMIT $2""",  # noqa: S608  constants
            *values,
        )
        return [row["key"] for row in rows]

    async def forget(self, keys: Iterable[str]) -> None:
        """Take unwanted rows, whose objects are gone, out of the ledger."""
        await self._pool.fetch(
            "DELETE FROM stored_objects WHERE key = ANY($1::text[]) AND state = 'unwanted'",
            list(keys),
        )

    async def of(self, asset_id: AssetId) -> list[LedgerRow]:
        """All rows of one asset, by key."""
        rows = await self._pool.fetch(
            f"SELECT * FROM stored_objects WHERE {WHERE} ORDER BY key",  # noqa: S608  constants
            *key(asset_id),
        )
        return [_row(row) for row in rows]

    async def page(self, after: str = "", limit: int = 1000) -> list[LedgerRow]:
        """Rows in order of their keys, those after `after`."""
        rows = await self._pool.fetch(
            "SELECT * FROM stored_objects WHERE key > $1 ORDER BY key LIMIT $2", after, limit
        )
        return [_row(row) for row in rows]

    async def count(self) -> dict[str, int]:
        """How many objects there are in each state."""
        rows = await self._pool.fetch(
            "SELECT state, count(*) AS number FROM stored_objects GROUP BY state"
        )
        return {row["state"]: row["number"] for row in rows}

    async def _write(
        self,
        asset_id: AssetId,
        version: int,
        objects: Sequence[StoredObject],
        state: str,
        on_conflict: str,
    ) -> None:
        await self._pool.fetch(
            f"""INSERT INTO stored_objects
                    (key, customer, space, name, version, kind, bytes, state)
                SELECT one.key, $1, $2, $3, $4, one.kind, one.bytes, $5
                FROM unnest($6::text[], $7::text[], $8::bigint[]) AS one (key, kind, bytes)
                {on_conflict}""",  # noqa: S608  constants
            *key(asset_id),
            version,
            state,
            [one.key for one in objects],
            [one.kind for one in objects],
            [one.bytes for one in objects],
        )


def _row(row: asyncpg.Record) -> LedgerRow:
    return LedgerRow(
        id=AssetId(row["customer"], row["space"], row["name"]),
        object=StoredObject(row["key"], row["kind"], row["bytes"]),
        version=row["version"],
        state=row["state"],
        since=row["since"],
    )
