"""Activities: what happened to the assets of which the public sees something.

Triggers record them (migration 0022). The numbers of a customer have no gaps when they are given
out, so a page of the stream is a range of numbers: it never gets other activities than it had.
Pruned ones are missing from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from orchestrator.catalog.connection import Pool
from orchestrator.model import AssetId

ActivityKind = Literal["Create", "Update", "Delete"]


@dataclass(frozen=True, slots=True)
class Activity:
    """One activity. `Delete`: the public sees nothing of the asset any more."""

    number: int
    kind: ActivityKind
    at: datetime
    asset: AssetId


@dataclass(frozen=True, slots=True)
class ActivityRange:
    """The activities with numbers in a range, and the numbers of the nearest ones before and after
    it.
    """

    activities: tuple[Activity, ...]
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class ActivityBounds:
    """The first and the last number of a customer's activities, and the time of the last one."""

    first: int
    last: int
    at: datetime


class Activities:
    """The repository of activities. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def range(self, customer: int, first: int, last: int) -> ActivityRange:
        """The activities of a customer with numbers from `first` to `last`, in their order."""
        rows = await self._pool.fetch(
            """SELECT * FROM activities WHERE customer = $1 AND number BETWEEN $2 AND $3
               ORDER BY number""",
            customer,
            first,
            last,
        )
        near = await self._pool.fetchrow(
            """SELECT (SELECT max(number) FROM activities
                       WHERE customer = $1 AND number < $2) AS before,
                   (SELECT min(number) FROM activities
                    WHERE customer = $1 AND number > $3) AS after""",
            customer,
            first,
            last,
        )
        found = tuple(
            Activity(
                row["number"], row["kind"], row["at"], AssetId(customer, row["space"], row["name"])
            )
            for row in rows
        )
        return ActivityRange(
            found, near["before"] if near else None, near["after"] if near else None
        )

    async def bounds(self, customer: int) -> ActivityBounds | None:
        """The ends of the customer's stream; None if it has no activities."""
        row = await self._pool.fetchrow(
            """SELECT number AS last, at, (SELECT min(number) FROM activities
                   WHERE customer = $1) AS first
               FROM activities WHERE customer = $1 ORDER BY number DESC LIMIT 1""",
            customer,
        )
        return None if row is None else ActivityBounds(row["first"], row["last"], row["at"])

    async def prune(self, older_s: float, limit: int = 10_000) -> int:
        """Delete at most `limit` activities that are older than `older_s` seconds, and deletions or
        not the latest of their asset; returns how many.
        """
        rows = await self._pool.fetch(
            """DELETE FROM activities WHERE (customer, number) IN (
                   SELECT customer, number FROM activities
                   WHERE (NOT is_latest OR kind = 'Delete')
                       AND at < now() - make_interval(secs => $1)
                   ORDER BY at LIMIT $2)
               RETURNING number""",
            older_s,
            limit,
        )
        return len(rows)
