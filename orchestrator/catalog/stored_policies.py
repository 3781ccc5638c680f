"""The repository of stored policies: how originals are made tile-ready and which thumbnails are
made.

A policy belongs to a customer, or to all (customer 0). Definitions are JSON that was validated
before it came here (`ingest/policy_definitions.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import asyncpg

from orchestrator.catalog.connection import Pool
from orchestrator.catalog.rows import is_storable
from orchestrator.errors import NotFound

PolicyKind = Literal["optimisation", "thumbnail"]
EVERYONE = 0
"""The customer whose policies are global."""


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A row: whose it is (EVERYONE: global), its name and its definition."""

    kind: PolicyKind
    customer: int
    name: str
    definition: dict[str, Any]
    created: datetime
    updated: datetime


class StoredPolicies:
    """Policies of one database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, kind: PolicyKind, customer: int, name: str) -> StoredPolicy | None:
        """The policy that belongs to just this customer, or None."""
        if not is_storable(name):
            return None
        row = await self._pool.fetchrow(
            "SELECT * FROM policies WHERE kind = $1 AND customer = $2 AND name = $3",
            kind,
            customer,
            name,
        )
        return None if row is None else _policy(row)

    async def for_customer(self, kind: PolicyKind, customer: int) -> list[StoredPolicy]:
        """The global ones, then the customer's own, each by name."""
        rows = await self._pool.fetch(
            """SELECT * FROM policies WHERE kind = $1 AND customer IN (0, $2)
               ORDER BY customer, name""",
            kind,
            customer,
        )
        return [_policy(row) for row in rows]

    async def put(
        self, kind: PolicyKind, customer: int, name: str, definition: dict[str, Any]
    ) -> tuple[StoredPolicy, bool]:
        """Create or replace one; the policy as it now is, and True if it is new. Raises
        InvalidInput when no column can hold it.
        """
        row = await self._pool.fetchrow(
            """INSERT INTO policies (kind, customer, name, definition) VALUES ($1, $2, $3, $4)
               ON CONFLICT (kind, customer, name)
               DO UPDATE SET definition = excluded.definition, updated = now()
               RETURNING *, xmax = 0 AS is_new""",
            kind,
            customer,
            name,
            definition,
        )
        if row is None:
            raise NotFound("The policy was removed meanwhile.")
        return _policy(row), bool(row["is_new"])

    async def delete(self, kind: PolicyKind, customer: int, name: str) -> bool:
        """Remove one; False when there was none."""
        row = await self._pool.fetchrow(
            """DELETE FROM policies WHERE kind = $1 AND customer = $2 AND name = $3
               RETURNING name""",
            kind,
            customer,
            name if is_storable(name) else "",
        )
        return row is not None


def _policy(row: asyncpg.Record) -> StoredPolicy:
    return StoredPolicy(
        row["kind"],
        row["customer"],
        row["name"],
        row["definition"],
        row["created"],
        row["updated"],
    )
