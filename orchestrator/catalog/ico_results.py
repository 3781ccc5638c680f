"""The results of transforms that may be stored beside their originals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.catalog.connection import Pool

ICO_CHANNEL = "orchestrator_ico"
"""The channel of the notices that the results of an original were purged. The payload is the id of
the original in caches.
"""


@dataclass(frozen=True, slots=True)
class RecordedResult:
    """A result that may be stored: the parameters in its key, and the ETag of its original."""

    params: str
    etag: str


class IcoResults:
    """The repository of stored results. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def record(self, store: str, key: str, result: RecordedResult) -> list[str]:
        """Record a result of the original `key`, before it is stored. Returns the outdated results
        of the original, as `outdated` does.
        """
        rows = await self._pool.fetch(
            """WITH recorded AS (
                   INSERT INTO ico_results (store, key, params, etag) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (store, key, params)
                   DO UPDATE SET etag = excluded.etag, recorded = now()
               ) SELECT params FROM ico_results
               WHERE store = $1 AND key = $2 AND etag <> $4 AND params <> $3""",
            store,
            key,
            result.params,
            result.etag,
        )
        return [row["params"] for row in rows]

    async def outdated(self, store: str, key: str, etag: str) -> list[str]:
        """The parameters of every recorded result of an original that is not of the version with
        this ETag; with "", of all.
        """
        rows = await self._pool.fetch(
            "SELECT params FROM ico_results WHERE store = $1 AND key = $2 AND etag <> $3",
            store,
            key,
            etag,
        )
        return [row["params"] for row in rows]

    async def forget(self, store: str, key: str, params: Sequence[str]) -> None:
        """Delete the rows of results whose objects were deleted."""
        await self._pool.fetch(
            "DELETE FROM ico_results WHERE store = $1 AND key = $2 AND params = ANY ($3::text[])",
            store,
            key,
            list(params),
        )

    async def announce_purge(self, original: str) -> None:
        """Notify every process that the results of the original with this id were purged."""
        await self._pool.fetchrow("SELECT pg_notify($1, $2)", ICO_CHANNEL, original)
