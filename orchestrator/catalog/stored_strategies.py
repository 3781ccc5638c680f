"""Stored origin strategies: how the origins of a customer are read, in the customer's order.

Credentials are encrypted, or a link, when they are stored and when they are returned. This module
does not decrypt them.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import asyncpg

from orchestrator.catalog.connection import Pool
from orchestrator.catalog.values import OriginStrategy, StrategyDraft
from orchestrator.errors import NotFound, StateConflict

_ORDER = "ORDER BY place, id"
_SAME = "The customer already has an origin strategy with this regex."


class OriginStrategies:
    """The repository of origin strategies. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def all(self) -> list[OriginStrategy]:
        """The strategies of all customers."""
        rows = await self._pool.fetch(
            "SELECT * FROM origin_strategies ORDER BY customer, place, id"
        )
        return [_strategy(row) for row in rows]

    async def list(self, customer: int) -> list[OriginStrategy]:
        """The customer's strategies by place, then by id: the order in which they are tried."""
        rows = await self._pool.fetch(
            f"SELECT * FROM origin_strategies WHERE customer = $1 {_ORDER}",  # noqa: S608  a constant
            customer,
        )
        return [_strategy(row) for row in rows]

    async def get(self, customer: int, strategy: UUID) -> OriginStrategy:
        """The strategy of this customer with this id. Raises NotFound."""
        row = await self._pool.fetchrow(
            "SELECT * FROM origin_strategies WHERE customer = $1 AND id = $2", customer, strategy
        )
        return _strategy(row)

    async def create(self, customer: int, draft: StrategyDraft) -> OriginStrategy:
        """Create a strategy. Raises Conflict when the customer has one with this regex, NotFound
        when there is no such customer.
        """
        try:
            row = await self._pool.fetchrow(
                """INSERT INTO origin_strategies
                       (customer, place, regex, strategy, credentials, optimised)
                   VALUES ($1, $2, $3, $4, $5, $6) RETURNING *""",
                customer,
                *_columns(draft),
            )
        except asyncpg.UniqueViolationError as error:
            raise StateConflict(_SAME) from error
        except asyncpg.ForeignKeyViolationError as error:
            raise NotFound(f"There is no customer {customer}.") from error
        return _strategy(row)

    async def change(
        self, customer: int, strategy: UUID, edit: Callable[[OriginStrategy], StrategyDraft]
    ) -> OriginStrategy:
        """Replace the strategy by what `edit` returns for it. It is locked until then.

        Raises NotFound, Conflict as `create`, and what `edit` raises; nothing is changed then.
        """
        try:
            async with self._pool.transaction() as connection:
                before = await connection.fetchrow(
                    """SELECT * FROM origin_strategies WHERE customer = $1 AND id = $2
                       FOR UPDATE""",
                    customer,
                    strategy,
                )
                draft = edit(_strategy(before))
                row = await connection.fetchrow(
                    """UPDATE origin_strategies SET place = $3, regex = $4, strategy = $5,
                           credentials = $6, optimised = $7, updated = now()
                       WHERE customer = $1 AND id = $2 RETURNING *""",
                    customer,
                    strategy,
                    *_columns(draft),
                )
        except asyncpg.UniqueViolationError as error:
            raise StateConflict(_SAME) from error
        return _strategy(row)

    async def delete(self, customer: int, strategy: UUID) -> None:
        """Delete the strategy. Raises NotFound."""
        row = await self._pool.fetchrow(
            "DELETE FROM origin_strategies WHERE customer = $1 AND id = $2 RETURNING *",
            customer,
            strategy,
        )
        _strategy(row)


def _columns(draft: StrategyDraft) -> tuple[int, str, str, str, bool]:
    return draft.place, draft.regex, draft.strategy, draft.credentials, draft.optimised


def _strategy(row: asyncpg.Record | None) -> OriginStrategy:
    if row is None:
        raise NotFound("There is no such origin strategy.")
    return OriginStrategy(
        id=row["id"],
        customer=row["customer"],
        place=row["place"],
        regex=row["regex"],
        strategy=row["strategy"],
        credentials=row["credentials"],
        optimised=row["optimised"],
        created=row["created"],
        updated=row["updated"],
    )
