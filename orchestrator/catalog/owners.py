"""Who keeps house in a folder shared by several hosts: one owner, by a lease, fenced by a term.

The owner renews its lease about every second; when it dies another takes over as soon as the lease
is out, under a higher term. What an owner does is done in a transaction that has looked at the term
(`SharedFiles.locked`), so one that was only asleep does no harm when it wakes.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from orchestrator.catalog.connection import Pool


class NoLongerOwner(Exception):
    """Another process keeps house in the folder by now."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """One stretch of keeping house in a folder."""

    folder: UUID
    owner: str
    term: int
    crashed: bool = False
    """The owner before did not say goodbye."""


class Owners:
    """The repository of leases on shared folders. Raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def hold(self, folder: UUID, owner: str, host: str, lease_s: float) -> Ownership | None:
        """Renew this process's lease, or take one that is out; None while another has it."""
        row = await self._pool.fetchrow(
            """WITH before AS (SELECT * FROM shared_folders WHERE id = $1 FOR UPDATE)
               UPDATE shared_folders f SET owner = $2, host = $3,
                   term = f.term + (f.owner <> $2 OR f.lease_until < now())::int,
                   lease_until = now() + make_interval(secs => $4)
               FROM before
               WHERE f.id = $1 AND (f.owner = $2 OR f.lease_until < now())
               RETURNING f.term, before.owner NOT IN ('', $2) AS crashed""",
            folder,
            owner,
            host,
            lease_s,
        )
        return None if row is None else Ownership(folder, owner, row["term"], row["crashed"])

    async def release(self, held: Ownership) -> None:
        """Say goodbye: the next may take over at once, and need not look for what was left."""
        await self._pool.fetch(
            """UPDATE shared_folders SET owner = '', lease_until = '-infinity'
               WHERE id = $1 AND owner = $2 AND term = $3""",
            held.folder,
            held.owner,
            held.term,
        )

    async def host_of(self, folder: UUID) -> str:
        """The host whose process keeps house now; "" when none does."""
        row = await self._pool.fetchrow(
            "SELECT host FROM shared_folders WHERE id = $1 AND lease_until > now()", folder
        )
        return "" if row is None else str(row["host"])
