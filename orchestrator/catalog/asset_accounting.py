"""What a change of an asset does, in its own transaction, to the ledger of objects, its customer's
account and its history.

After it exactly what the asset names is live, so the account, which follows the live objects, is
exact too.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg

from orchestrator.catalog.asset_transaction import WHERE, key
from orchestrator.catalog.attempts import insert_attempt
from orchestrator.catalog.quotas import check_room, reserved
from orchestrator.catalog.values import Settlement, StoredObject
from orchestrator.errors import Conflict
from orchestrator.model import STORE, Asset, AssetId

NOTHING = Settlement()


async def settle(
    connection: asyncpg.Connection,
    asset_id: AssetId,
    asset: Asset | None,
    settlement: Settlement = NOTHING,
) -> list[StoredObject]:
    """Bring ledger, account and history up to `asset` as it now is (None: deleted).

    Returns what became unwanted. The caller has the asset locked. Raises Conflict when one of
    `settlement.objects` is not there to be made live (its writer was taken for dead), OverQuota
    when what is added was not reserved and there is no room.
    """
    before = await _totals(connection, asset_id)
    await _make_live(connection, settlement.objects)
    unwanted = await _make_unwanted(connection, asset_id, asset)
    after = await _totals(connection, asset_id)
    await _account(
        connection,
        asset_id.customer,
        images=after[0] - before[0],
        added=after[1] - before[1],
        reservation=settlement.reservation,
    )
    if settlement.attempt is not None:
        await insert_attempt(connection, settlement.attempt)
    return unwanted


async def _totals(connection: asyncpg.Connection, asset_id: AssetId) -> tuple[int, int]:
    """(1 if the asset has anything in the store, bytes that count)."""
    row = await connection.fetchrow(
        f"""SELECT least(count(*), 1) AS images,
                coalesce(sum(bytes) FILTER (WHERE kind <> 'sizes'), 0) AS stored
            FROM stored_objects WHERE {WHERE} AND state = 'live'""",  # noqa: S608  constants
        *key(asset_id),
    )
    return (0, 0) if row is None else (int(row["images"]), int(row["stored"]))


async def _make_live(connection: asyncpg.Connection, objects: tuple[StoredObject, ...]) -> None:
    if not objects:
        return
    rows = await connection.fetch(
        """UPDATE stored_objects AS kept SET state = 'live', since = now(), bytes = one.bytes
           FROM unnest($1::text[], $2::bigint[]) AS one (key, bytes)
           WHERE kept.key = one.key AND kept.state = 'writing' RETURNING kept.key""",
        [one.key for one in objects],
        [one.bytes for one in objects],
    )
    if len(rows) != len(objects):
        raise Conflict("The ingest was taken for dead and what it wrote swept; try again.")


async def _make_unwanted(
    connection: asyncpg.Connection, asset_id: AssetId, asset: Asset | None
) -> list[StoredObject]:
    source, number = "", 0
    if asset is not None:
        number = asset.thumbnails_version
        if asset.source is not None and asset.source.location.startswith(STORE):
            source = asset.source.location.removeprefix(STORE)
    rows: list[Any] = await connection.fetch(
        f"""UPDATE stored_objects SET state = 'unwanted', since = now()
            WHERE {WHERE} AND state = 'live' AND key <> $4
                AND NOT (kind IN ('thumbnail', 'sizes') AND version = $5)
            RETURNING key, kind, bytes""",  # noqa: S608  constants
        *key(asset_id),
        source,
        number,
    )
    return [StoredObject(row["key"], row["kind"], row["bytes"]) for row in rows]


async def _account(
    connection: asyncpg.Connection,
    customer: int,
    *,
    images: int,
    added: int,
    reservation: UUID | None,
) -> None:
    held = await reserved(connection, reservation)
    if not images and not added:
        return
    row = await connection.fetchrow(
        """INSERT INTO customer_storage AS kept (customer, images, stored)
           VALUES ($1, greatest($2::bigint, 0), greatest($3::bigint, 0))
           ON CONFLICT (customer) DO UPDATE SET
               images = greatest(kept.images + $2, 0), stored = greatest(kept.stored + $3, 0)
           RETURNING *""",
        customer,
        images,
        added,
    )
    if row is not None and (images > held[0] or added > held[1]):
        await check_room(connection, row, images=max(images, 0), added=max(added, 0))
