"""Stored policies: how originals are converted and which thumbnails are made.

A policy belongs to one customer, or to all (customer 0). Callers validate definitions before they
store them (`ingest/policy_definitions.py`).
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
"""The customer number of global policies."""


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy: its customer (EVERYONE: global), its name and its definition."""

    kind: PolicyKind
    customer: int
    name: str
    definition: dict[str, Any]
    created: datetime
    updated: datetime


class StoredPolicies:
    """The repository of policies. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, kind: PolicyKind, customer: int, name: str) -> StoredPolicy | None:
        """The policy of exactly this customer, or None."""
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
        """The global policies, then the customer's own, each by name."""
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
        """Create or replace a policy. Returns it, and True if it is new. Raises InvalidInput when
        no column can hold it.
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
            raise NotFound("The policy was removed at the same time. Try again.")
        return _policy(row), bool(row["is_new"])

    async def delete(self, kind: PolicyKind, customer: int, name: str) -> bool:
        """Delete a policy; False when there is none."""
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
