"""Stored named queries. A query belongs to one customer, or to all (customer 0). Callers check
templates before they store them (`manifests/query_template.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from orchestrator.catalog.connection import Pool
from orchestrator.catalog.rows import is_storable
from orchestrator.errors import NotFound, StateConflict

EVERYONE = 0
"""The customer number of global queries."""


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A stored query: its customer (EVERYONE: global), its name and its template."""

    customer: int
    name: str
    template: str
    created: datetime
    updated: datetime


class NamedQueries:
    """The repository of named queries. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, customer: int, name: str) -> NamedQuery:
        """The customer's own query of this name, else the global one. Raises NotFound."""
        row = None
        if is_storable(name):
            row = await self._pool.fetchrow(
                """SELECT * FROM named_queries WHERE customer IN (0, $1) AND name = $2
                   ORDER BY customer DESC LIMIT 1""",
                customer,
                name,
            )
        if row is None:
            raise _unknown(name)
        return _query(row)

    async def for_customer(self, customer: int) -> list[NamedQuery]:
        """The queries that `find` can give, by name."""
        rows = await self._pool.fetch(
            """SELECT DISTINCT ON (name) * FROM named_queries WHERE customer IN (0, $1)
               ORDER BY name, customer DESC""",
            customer,
        )
        return [_query(row) for row in rows]

    async def create(self, customer: int, name: str, template: str) -> NamedQuery:
        """Create a query. Raises StateConflict if the customer has one of this name."""
        query, is_new = await self._store(customer, name, template, "NOTHING")
        if query is None or not is_new:
            raise StateConflict(f"There is a named query {name[:100]!r}. Change it with PUT.")
        return query

    async def put(self, customer: int, name: str, template: str) -> tuple[NamedQuery, bool]:
        """Create or replace a query. Returns it, and True if it is new."""
        change = "UPDATE SET template = excluded.template, updated = now()"
        query, is_new = await self._store(customer, name, template, change)
        if query is None:
            raise _unknown(name)
        return query, is_new

    async def delete(self, customer: int, name: str) -> None:
        """Delete a query of exactly this customer. Raises NotFound."""
        row = await self._pool.fetchrow(
            "DELETE FROM named_queries WHERE customer = $1 AND name = $2 RETURNING name",
            customer,
            name if is_storable(name) else "",
        )
        if row is None:
            raise _unknown(name)

    async def _store(
        self, customer: int, name: str, template: str, on_conflict: str
    ) -> tuple[NamedQuery | None, bool]:
        row = await self._pool.fetchrow(
            f"""INSERT INTO named_queries (customer, name, template) VALUES ($1, $2, $3)
               ON CONFLICT (customer, name) DO {on_conflict}
               RETURNING *, xmax = 0 AS is_new""",  # noqa: S608  constants
            customer,
            name,
            template,
        )
        return (None, False) if row is None else (_query(row), bool(row["is_new"]))


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no named query {name[:100]!r}. Check the name.")


def _query(row: asyncpg.Record) -> NamedQuery:
    return NamedQuery(row["customer"], row["name"], row["template"], row["created"], row["updated"])
