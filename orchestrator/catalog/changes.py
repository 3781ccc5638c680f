"""What caches hold no longer stands for: kept by the database with every change of a version, so
that a host that heard nothing (down, or its connection lost) can make up for it.

Told at once by NOTIFY as well; reading the same change twice does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from orchestrator.catalog.asset_transaction import notify
from orchestrator.catalog.connection import Pool
from orchestrator.errors import OrchestratorError
from orchestrator.model import AssetId

log = logging.getLogger(__name__)
GONE, PREFIX = 0, -1
"""In place of a version: everything of the asset is to go; of all assets whose id begins so."""
_PAGE = 1000
_LATE_S = 60
"""A change is entered before its transaction commits, so what is read once may lack one that was
entered earlier; longer than any transaction of ours lasts.
"""


@dataclass(frozen=True, slots=True)
class Change:
    """`version` is the asset's new one, or GONE, or PREFIX: `asset` is the beginning of ids."""

    asset: str
    version: int


class Changes:
    """The repository of changes. Every method raises CatalogUnavailable when the database does not
    answer.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def since(self, seen: datetime | None) -> tuple[list[Change], datetime]:
        """The changes since `seen` (None: none of them), the last of each asset and each cleared
        prefix, and the database's time now, to be given as `seen` the next time.
        """
        row = await self._pool.fetchrow("SELECT clock_timestamp() AS now")
        now: datetime = row["now"] if row is not None else datetime.now().astimezone()
        if seen is None:
            return [], now
        latest: dict[tuple[str, bool], int] = {}  # a prefix may read like an asset's whole id
        last = 0
        while True:
            rows = await self._pool.fetch(
                """SELECT id, asset, version FROM asset_changes
                   WHERE at > $1::timestamptz - make_interval(secs => $2) AND id > $3
                   ORDER BY id LIMIT $4""",
                seen,
                _LATE_S,
                last,
                _PAGE,
            )
            latest |= {(row["asset"], row["version"] == PREFIX): row["version"] for row in rows}
            if len(rows) < _PAGE:
                return [Change(text, version) for (text, _), version in latest.items()], now
            last = rows[-1]["id"]

    async def clear(self, asset_id: AssetId) -> None:
        """Have every host drop all it has cached of the asset."""
        await self._tell(str(asset_id), GONE)

    async def clear_prefix(self, prefix: str) -> None:
        """Have every host drop all it has cached of assets whose text id begins so."""
        await self._tell(prefix, PREFIX)

    async def forget(self, older_than_s: float) -> None:
        """Remove changes of more than so many seconds ago."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "DELETE FROM asset_changes WHERE at < now() - make_interval(secs => $1)",
                older_than_s,
            )

    async def _tell(self, text: str, version: int) -> None:
        async with self._pool.transaction() as connection:
            await connection.execute(
                "INSERT INTO asset_changes (asset, version) VALUES ($1, $2)", text, version
            )
            await notify(connection, version, text)


def change_notices(
    on_change: Callable[[AssetId, int], None], on_prefix: Callable[[str], None]
) -> Callable[[str], None]:
    """The function that a Listener calls for the channel of assets.

    `on_change` receives the asset and its new version, GONE when it was deleted or cleared;
    `on_prefix` the beginning of the ids whose caches are cleared.
    """

    def on_notice(payload: str) -> None:
        version, _, text = payload.partition(" ")
        try:
            if int(version) == PREFIX:
                on_prefix(text)
            else:
                on_change(AssetId.parse(text), int(version))
        except (OrchestratorError, ValueError):
            log.warning("change notice not understood", extra={"payload": payload[:300]})

    return on_notice
