"""Spaces of customers: those that a request created, and those that have assets.

A space needs no row: an asset may be in any space. A row gives it a name, and lists it without
assets.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from orchestrator.catalog.connection import Pool
from orchestrator.catalog.rows import is_storable
from orchestrator.catalog.values import Space
from orchestrator.errors import NotFound, StateConflict

MAX_SPACE = 999_999_999
_OCCUPIED = """WITH RECURSIVE occupied AS (  -- each space by one step down the primary key
        (SELECT space, 1 AS place FROM assets
         WHERE customer = $1 AND space > $2 ORDER BY space LIMIT 1)
        UNION ALL
        SELECT next.space, occupied.place + 1 FROM occupied, LATERAL (
            SELECT assets.space FROM assets
            WHERE customer = $1 AND assets.space > occupied.space ORDER BY space LIMIT 1) AS next
        WHERE occupied.place < $3
    )"""


class Spaces:
    """The repository of spaces. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, customer: int, after: int = -1, limit: int = 100) -> list[Space]:
        """At most `limit` spaces with numbers above `after`, by number."""
        rows = await self._pool.fetch(
            f"""{_OCCUPIED}, chosen AS (
                    SELECT space AS id FROM occupied
                    UNION SELECT id FROM spaces WHERE customer = $1 AND id > $2
                    ORDER BY id LIMIT $3
                )
                SELECT chosen.id, coalesce(name, '') AS name, created FROM chosen
                LEFT JOIN spaces ON customer = $1 AND spaces.id = chosen.id ORDER BY chosen.id""",  # noqa: S608
            customer,
            after,
            limit,
        )
        return [Space(customer, row["id"], row["name"], row["created"]) for row in rows]

    async def get(self, customer: int, space: int) -> Space:
        """The space. Raises NotFound for one that was not created and has no assets."""
        found = await self.page(customer, space - 1, 1)
        if not found or found[0].id != space:
            raise NotFound(f"Customer {customer} has no space {space}.")
        return found[0]

    async def by_name(self, customer: int, name: str) -> int | None:
        """The number of the customer's space with exactly this name, or None."""
        if not name or not is_storable(name):
            return None
        row = await self._pool.fetchrow(
            "SELECT id FROM spaces WHERE customer = $1 AND name = $2", customer, name
        )
        return None if row is None else int(row["id"])

    async def names(self, customer: int, spaces: Sequence[int]) -> dict[int, str]:
        """The names of those of the spaces that have one, by number."""
        rows = await self._pool.fetch(
            """SELECT id, name FROM spaces
               WHERE customer = $1 AND id = ANY ($2::int[]) AND name <> ''""",
            customer,
            list(spaces),
        )
        return {row["id"]: row["name"] for row in rows}

    async def create(self, customer: int, name: str = "", space: int | None = None) -> Space:
        """Create a space, with the number after the highest one unless one is given. Raises
        Conflict if it was created before, another one has the name, or no number is left.
        """
        try:
            async with self._pool.transaction() as connection:
                # Two transactions at a time would choose the same next number.
                await connection.execute(
                    "SELECT 1 FROM customers WHERE id = $1 FOR NO KEY UPDATE", customer
                )
                row = await connection.fetchrow(
                    """INSERT INTO spaces (customer, id, name)
                       VALUES ($1, coalesce($2, 1 + greatest(
                           (SELECT max(id) FROM spaces WHERE customer = $1),
                           (SELECT max(space) FROM assets WHERE customer = $1), 0)), $3)
                       RETURNING *""",
                    customer,
                    space,
                    name,
                )
                if row is None or row["id"] > MAX_SPACE:
                    raise StateConflict("There is no number after the highest one. Give `id`.")
        except asyncpg.UniqueViolationError as error:
            raise _taken() from error
        except asyncpg.ForeignKeyViolationError as error:
            raise NotFound(f"There is no customer {customer}.") from error
        return _space(row)

    async def rename(self, customer: int, space: int, name: str) -> Space:
        """Give a space another name; "" for none. Raises NotFound, Conflict."""
        await self.get(customer, space)
        try:
            row = await self._pool.fetchrow(
                """INSERT INTO spaces (customer, id, name) VALUES ($1, $2, $3)
                   ON CONFLICT (customer, id) DO UPDATE SET name = $3 RETURNING *""",
                customer,
                space,
                name,
            )
        except asyncpg.UniqueViolationError as error:
            raise _taken() from error
        return _space(row)

    async def delete(self, customer: int, space: int) -> None:
        """Delete a space without assets. Raises NotFound, Conflict if it has assets."""
        async with self._pool.transaction() as connection:
            if await connection.fetchval(
                "SELECT EXISTS (SELECT FROM assets WHERE customer = $1 AND space = $2)",
                customer,
                space,
            ):
                raise StateConflict(f"Space {space} has assets. Delete them first.")
            deleted = await connection.fetchval(
                "DELETE FROM spaces WHERE customer = $1 AND id = $2 RETURNING id", customer, space
            )
            if deleted is None:
                raise NotFound(f"Customer {customer} has no space {space}.")

    async def count(self, customer: int, space: int) -> int:
        """The number of assets in the space."""
        row = await self._pool.fetchrow(
            "SELECT count(*) AS number FROM assets WHERE customer = $1 AND space = $2",
            customer,
            space,
        )
        return 0 if row is None else int(row["number"])


def _taken() -> StateConflict:
    return StateConflict("A space with this number or name already exists.")


def _space(row: asyncpg.Record | None) -> Space:
    if row is None:
        raise NotFound("There is no such space.")
    return Space(row["customer"], row["id"], row["name"], row["created"])
