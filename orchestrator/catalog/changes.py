"""Changes of assets that make cached data invalid.

NOTIFY reports them when they commit. A trigger also records them in `asset_changes`, so that a host
that missed a notice (it was down, or its connection was lost) can read them later. Handling the
same change twice does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from orchestrator.catalog import asset_transaction
from orchestrator.catalog.asset_transaction import GONE, PREFIX, notify
from orchestrator.catalog.connection import Pool
from orchestrator.errors import OrchestratorError
from orchestrator.model import AssetId

log = logging.getLogger(__name__)
_PAGE = 1000
_LATE_S = 60
"""A change has its time before its transaction commits, so a read may miss one that is older than
others it returns. Each read therefore goes back by this much: longer than any transaction lasts.
"""


@dataclass(frozen=True, slots=True)
class Change:
    """`version` is the new version of `asset`, or GONE, or PREFIX: then `asset` is a prefix."""

    asset: str
    version: int


class Changes:
    """The repository of changes. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def since(self, seen: datetime | None) -> tuple[list[Change], datetime]:
        """The last change of each asset and each cleared prefix since `seen` (none if that is
        None), and the current time of the database: the value of `seen` for the next call.
        """
        row = await self._pool.fetchrow("SELECT clock_timestamp() AS now")
        now: datetime = row["now"] if row is not None else datetime.now().astimezone()
        if seen is None:
            return [], now
        latest: dict[tuple[str, bool], int] = {}  # a prefix can equal an asset's id
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
        """Make every host drop what it has cached for the asset."""
        await self._record(str(asset_id), GONE)

    async def clear_prefix(self, prefix: str) -> None:
        """Make every host drop what it has cached for assets whose id begins with `prefix`."""
        await self._record(prefix, PREFIX)

    async def forget(self, older_than_s: float) -> None:
        """Delete changes that are older than this."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "DELETE FROM asset_changes WHERE at < now() - make_interval(secs => $1)",
                older_than_s,
            )

    async def _record(self, text: str, version: int) -> None:
        async with self._pool.transaction() as connection:
            await connection.execute(
                "INSERT INTO asset_changes (asset, version) VALUES ($1, $2)", text, version
            )
            await notify(connection, version, text)


def change_notices(
    on_change: Callable[[AssetId, int], None],
    on_prefix: Callable[[str], None],
    on_alias: Callable[[str], None] = lambda _: None,
) -> Callable[[str], None]:
    """The function that a Listener calls for the channel of assets.

    `on_change` receives the asset and its new version, GONE when it was deleted or cleared;
    `on_prefix` the beginning of the ids whose caches are cleared; `on_alias` a name that from now
    on stands for another asset than before, or for one at all.
    """

    def on_notice(payload: str) -> None:
        version, _, text = payload.partition(" ")
        try:
            match int(version):
                case asset_transaction.PREFIX:
                    on_prefix(text)
                case asset_transaction.ALIAS:
                    on_alias(text)
                case number:
                    on_change(AssetId.parse(text), number)
        except (OrchestratorError, ValueError):
            log.warning("change notice not understood", extra={"payload": payload[:300]})

    return on_notice
