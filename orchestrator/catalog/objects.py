"""The ledger of objects: each object of the store has a row, which is entered before the object is
written.

A key is written only once, so removing an unwanted object can never remove what another process has
just written. A row in the state `writing` becomes `live` in the transaction that makes its asset
name it (`asset_accounting.py`), or it becomes `unwanted`. An unwanted row is deleted after its
object.
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
    """The repository of objects. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def enter(self, asset_id: AssetId, version: int, objects: Sequence[StoredObject]) -> None:
        """Enter objects that the caller is about to write under the new number `version`.

        Raises Conflict when one of the keys is in the ledger already.
        """
        try:
            await self._write(asset_id, version, objects, "writing", "")
        except asyncpg.UniqueViolationError as error:
            raise Conflict("An object with this key was written before. Try again.") from error

    async def discard(
        self, asset_id: AssetId, version: int, objects: Sequence[StoredObject]
    ) -> None:
        """Make objects unwanted that were entered and perhaps written. Live ones stay live.

        A row that is missing is inserted: an ingest that lost its lock may have written the object
        after the sweeper deleted the row.
        """
        on_conflict = """ON CONFLICT (key) DO UPDATE SET state = 'unwanted', since = now()
                   WHERE stored_objects.state = 'writing'"""
        await self._write(asset_id, version, objects, "unwanted", on_conflict)

    async def writers(self, older_s: float, limit: int = 1000) -> list[AssetId]:
        """Assets with objects in the state `writing` for more than `older_s` seconds."""
        rows = await self._pool.fetch(
            """SELECT DISTINCT customer, space, name FROM stored_objects
               WHERE state = 'writing' AND since < now() - make_interval(secs => $1) LIMIT $2""",
            older_s,
            limit,
        )
        return [AssetId(row["customer"], row["space"], row["name"]) for row in rows]

    async def abandon(self, asset_id: AssetId, older_s: float) -> int:
        """Make objects unwanted that have been `writing` for more than `older_s` seconds; returns
        how many there were. The caller holds the lock of the asset, so no ingest of it is running.
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
        """Keys of objects that have been unwanted for `older_s` seconds, the oldest first; of one
        asset, or of all.
        """
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
        """Delete unwanted rows, whose objects have been removed."""
        await self._pool.fetch(
            "DELETE FROM stored_objects WHERE key = ANY($1::text[]) AND state = 'unwanted'",
            list(keys),
        )

    async def of(self, asset_id: AssetId) -> list[LedgerRow]:
        """The rows of one asset, by key."""
        rows = await self._pool.fetch(
            f"SELECT * FROM stored_objects WHERE {WHERE} ORDER BY key",  # noqa: S608  constants
            *key(asset_id),
        )
        return [_row(row) for row in rows]

    async def page(self, after: str = "", limit: int = 1000) -> list[LedgerRow]:
        """At most `limit` rows that follow the key `after`, by key."""
        rows = await self._pool.fetch(
            "SELECT * FROM stored_objects WHERE key > $1 ORDER BY key LIMIT $2", after, limit
        )
        return [_row(row) for row in rows]

    async def count(self) -> dict[str, int]:
        """The number of objects in each state."""
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
                SELECT object.key, $1, $2, $3, $4, object.kind, object.bytes, $5
                FROM unnest($6::text[], $7::text[], $8::bigint[]) AS object (key, kind, bytes)
                {on_conflict}""",  # noqa: S608  constants
            *key(asset_id),
            version,
            state,
            [each.key for each in objects],
            [each.kind for each in objects],
            [each.bytes for each in objects],
        )


def _row(row: asyncpg.Record) -> LedgerRow:
    return LedgerRow(
        id=AssetId(row["customer"], row["space"], row["name"]),
        object=StoredObject(row["key"], row["kind"], row["bytes"]),
        version=row["version"],
        state=row["state"],
        since=row["since"],
    )
