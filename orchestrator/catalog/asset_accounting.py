"""Updates the ledger of objects, the storage account of the customer and the history of the asset,
in the transaction that changes the asset.

After it exactly the objects that the asset names are live. The account follows the live objects, so
it is exact, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import asyncpg

from orchestrator.catalog.asset_transaction import WHERE, key
from orchestrator.catalog.attempts import insert_attempt
from orchestrator.catalog.quotas import check_room, use_reservation
from orchestrator.catalog.values import Settlement, StoredObject
from orchestrator.errors import Conflict
from orchestrator.model import SENT, STORE, Asset, AssetId

NOTHING = Settlement()


async def settle(
    connection: asyncpg.Connection,
    asset_id: AssetId,
    asset: Asset | None,
    settlement: Settlement = NOTHING,
) -> list[StoredObject]:
    """Update ledger, account and history for `asset` as it is now (None: deleted).

    Returns the objects that became unwanted. The caller has locked the asset. Raises Conflict when
    one of `settlement.objects` is not in the ledger any more (the ingest lost its lock and was
    cleaned up), OverQuota when the added bytes were not reserved and do not fit.
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


async def keep_uploads(connection: asyncpg.Connection, origins: Mapping[AssetId, str]) -> None:
    """Make the objects live that accepted requests name as their origins, each if a client sent it
    for this asset. The caller has locked the assets. Raises OverQuota.
    """
    for asset_id, origin in origins.items():
        if origin.startswith(SENT):
            await _keep_upload(connection, asset_id, origin)


async def _keep_upload(connection: asyncpg.Connection, asset_id: AssetId, origin: str) -> None:
    before = await _totals(connection, asset_id)
    await connection.execute(
        f"""UPDATE stored_objects SET state = 'live', since = now()
            WHERE {WHERE} AND key = $4 AND kind = 'upload' AND state = 'writing'""",  # noqa: S608
        *key(asset_id),
        origin.removeprefix(SENT),
    )
    after = await _totals(connection, asset_id)
    await _account(
        connection,
        asset_id.customer,
        images=after[0] - before[0],
        added=after[1] - before[1],
        reservation=None,
    )


async def _totals(connection: asyncpg.Connection, asset_id: AssetId) -> tuple[int, int]:
    """Return (1 if the asset has objects in the store, else 0; bytes that count)."""
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
        """UPDATE stored_objects AS ledger SET state = 'live', since = now(), bytes = object.bytes
           FROM unnest($1::text[], $2::bigint[]) AS object (key, bytes)
           WHERE ledger.key = object.key AND ledger.state = 'writing' RETURNING ledger.key""",
        [each.key for each in objects],
        [each.bytes for each in objects],
    )
    if len(rows) != len(objects):
        raise Conflict("This ingest lost its lock and was cleaned up. Try again.")


async def _make_unwanted(
    connection: asyncpg.Connection, asset_id: AssetId, asset: Asset | None
) -> list[StoredObject]:
    source, number = "", 0
    uploads: list[str] = []
    if asset is not None:
        origins = {asset.origin, asset.requested.origin if asset.requested else ""}
        uploads = [each.removeprefix(SENT) for each in origins if each.startswith(SENT)]
        number = asset.thumbnails_version
        if asset.source is not None and asset.source.location.startswith(STORE):
            source = asset.source.location.removeprefix(STORE)
    rows: list[Any] = await connection.fetch(
        f"""UPDATE stored_objects SET state = 'unwanted', since = now()
            WHERE {WHERE} AND state = 'live' AND key <> $4
                AND NOT (kind IN ('thumbnail', 'sizes') AND version = $5)
                AND NOT (kind = 'upload' AND key = ANY ($6::text[]))
            RETURNING key, kind, bytes""",  # noqa: S608  constants
        *key(asset_id),
        source,
        number,
        uploads,
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
    reserved_images, reserved_bytes = await use_reservation(connection, reservation)
    if not images and not added:
        return
    row = await connection.fetchrow(
        """INSERT INTO customer_storage AS account (customer, images, stored)
           VALUES ($1, greatest($2::bigint, 0), greatest($3::bigint, 0))
           ON CONFLICT (customer) DO UPDATE SET
               images = greatest(account.images + $2, 0), stored = greatest(account.stored + $3, 0)
           RETURNING *""",
        customer,
        images,
        added,
    )
    if row is not None and (images > reserved_images or added > reserved_bytes):
        await check_room(connection, row, images=max(images, 0), added=max(added, 0))
