"""Quotas: what a customer may store, what is stored, and what running ingests have reserved.

An ingest reserves room under the lock of the customer's row and uses the reservation in the
transaction that publishes. So concurrent ingests cannot exceed a limit together. An ingest that
needs no more room than before always passes.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg

from orchestrator.catalog.asset_transaction import WHERE, key
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.values import StorageUse
from orchestrator.errors import InvalidInput, OverQuota
from orchestrator.model import AssetId

_MAX_LIMIT = 2**62


class Quotas:
    """The repository of limits and reservations. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, customer: int) -> StorageUse:
        """The customer's limits and what is used of them. Limits that were never set are None."""
        async with self._pool.connection() as connection:
            row = await connection.fetchrow(
                "SELECT * FROM customer_storage WHERE customer = $1", customer
            )
            if row is None:
                return StorageUse(customer)
            images, reserved = await _read_reserved(connection, customer)
            return _use(row, images, reserved)

    async def set_limits(
        self, customer: int, *, max_images: int | None, max_bytes: int | None
    ) -> StorageUse:
        """Set both limits (None: no limit). A limit below what is stored removes nothing, and lets
        nothing be added. Raises InvalidInput for a negative limit.
        """
        for limit in (max_images, max_bytes):
            if limit is not None and not 0 <= limit <= _MAX_LIMIT:
                raise InvalidInput("A storage limit is a number from 0 on, or null for none.")
        await self._pool.fetch(
            """INSERT INTO customer_storage (customer, max_images, max_bytes) VALUES ($1, $2, $3)
               ON CONFLICT (customer) DO UPDATE SET max_images = $2, max_bytes = $3""",
            customer,
            max_images,
            max_bytes,
        )
        return await self.get(customer)

    async def reserve(
        self,
        asset_id: AssetId,
        new_bytes: int,
        lasts_s: float,
        *,
        instead_of: UUID | None = None,
    ) -> UUID | None:
        """Reserve room for an asset that will have `new_bytes` in the store instead of what it has
        now, and for one more image if it has nothing now.

        None when the customer has no limits. This reservation replaces `instead_of`. Raises
        OverQuota; the old reservation stays then.
        """
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow(
                "SELECT * FROM customer_storage WHERE customer = $1 FOR UPDATE", asset_id.customer
            )
            await use_reservation(connection, instead_of)
            if row is None or (row["max_images"] is None and row["max_bytes"] is None):
                return None
            images, now = await _read_live(connection, asset_id)
            added = max(new_bytes - now, 0)
            more = 0 if images else 1
            if more or added:
                # Not counted yet: the check adds them.
                await check_room(connection, row, images=more, added=added, is_counted=False)
            return await _insert_reservation(connection, asset_id, more, added, lasts_s)

    async def release(self, reservation: UUID | None) -> None:
        """Delete a reservation. It is no error if it was used or has expired."""
        if reservation is not None:
            await self._pool.fetch("DELETE FROM quota_reservations WHERE id = $1", reservation)

    async def expire(self) -> int:
        """Delete expired reservations; returns how many."""
        rows = await self._pool.fetch(
            "DELETE FROM quota_reservations WHERE expires < now() RETURNING id"
        )
        return len(rows)

    async def recount(self, customer: int) -> StorageUse:
        """Recompute what is stored from the ledger, in case tables were edited by hand."""
        async with self._pool.transaction() as connection:
            await connection.execute(
                """INSERT INTO customer_storage (customer) VALUES ($1) ON CONFLICT DO NOTHING""",
                customer,
            )
            await connection.fetchrow(
                "SELECT 1 FROM customer_storage WHERE customer = $1 FOR UPDATE", customer
            )
            await connection.execute(
                """UPDATE customer_storage SET
                       images = (SELECT count(DISTINCT (space, name)) FROM stored_objects
                                 WHERE customer = $1 AND state = 'live'),
                       stored = (SELECT coalesce(sum(bytes), 0) FROM stored_objects
                                 WHERE customer = $1 AND state = 'live' AND kind <> 'sizes')
                   WHERE customer = $1""",
                customer,
            )
        return await self.get(customer)


async def use_reservation(
    connection: asyncpg.Connection, reservation: UUID | None
) -> tuple[int, int]:
    """Delete a reservation and return its (images, bytes), (0, 0) when it has expired."""
    if reservation is None:
        return 0, 0
    row = await connection.fetchrow(
        """DELETE FROM quota_reservations WHERE id = $1
           RETURNING images, bytes, expires > now() AS ok""",
        reservation,
    )
    return (row["images"], row["bytes"]) if row is not None and row["ok"] else (0, 0)


async def check_room(
    connection: asyncpg.Connection, row: Any, *, images: int, added: int, is_counted: bool = True
) -> None:
    """Raise OverQuota when `images` and `added` bytes do not fit beside what is stored and
    reserved. `row` is the customer's locked row; `is_counted` says whether it already includes
    them.
    """
    reserved_images, reserved = await _read_reserved(connection, row["customer"])
    used_images = row["images"] + reserved_images + (0 if is_counted else images)
    used = row["stored"] + reserved + (0 if is_counted else added)
    if images and row["max_images"] is not None and used_images > row["max_images"]:
        raise OverQuota(
            f"The customer's limit of {row['max_images']} images is reached. Nothing was stored. "
            "Delete assets or raise the limit."
        )
    limit = row["max_bytes"]
    is_full = images > 0 and not added and limit is not None and used >= limit
    if limit is not None and ((added and used > limit) or is_full):
        raise OverQuota(
            f"The customer's limit of {limit} bytes would be exceeded: {used} bytes would be used. "
            "Nothing was stored. Delete assets or raise the limit."
        )


async def _read_live(connection: asyncpg.Connection, asset_id: AssetId) -> tuple[int, int]:
    row = await connection.fetchrow(
        f"""SELECT count(*) AS objects,
                coalesce(sum(bytes) FILTER (WHERE kind <> 'sizes'), 0) AS stored
            FROM stored_objects WHERE {WHERE} AND state = 'live'""",  # noqa: S608  constants
        *key(asset_id),
    )
    return (0, 0) if row is None else (min(int(row["objects"]), 1), int(row["stored"]))


async def _read_reserved(connection: asyncpg.Connection, customer: int) -> tuple[int, int]:
    row = await connection.fetchrow(
        """SELECT coalesce(sum(images), 0) AS images, coalesce(sum(bytes), 0) AS reserved
           FROM quota_reservations WHERE customer = $1 AND expires > now()""",
        customer,
    )
    return (0, 0) if row is None else (int(row["images"]), int(row["reserved"]))


async def _insert_reservation(
    connection: asyncpg.Connection, asset_id: AssetId, images: int, added: int, lasts_s: float
) -> UUID:
    reservation: UUID = await connection.fetchval(
        """INSERT INTO quota_reservations (customer, asset, bytes, images, expires)
           VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5)) RETURNING id""",
        asset_id.customer,
        str(asset_id),
        added,
        images,
        lasts_s,
    )
    return reservation


def _use(row: Any, images: int, reserved: int) -> StorageUse:
    return StorageUse(
        customer=row["customer"],
        max_images=row["max_images"],
        max_bytes=row["max_bytes"],
        images=row["images"],
        stored=row["stored"],
        reserved_images=images,
        reserved_bytes=reserved,
    )
