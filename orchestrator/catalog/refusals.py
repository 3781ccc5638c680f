"""Originals that cannot be served, recorded with the reason."""

from __future__ import annotations

from orchestrator.catalog.accepted_requests import Check
from orchestrator.catalog.asset_accounting import settle
from orchestrator.catalog.asset_transaction import (
    WHERE,
    key,
    lock_asset,
    next_generation,
    next_version,
    write_version,
)
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.rows import COLUMNS, asset_of
from orchestrator.catalog.values import AssetDraft
from orchestrator.model import Asset, AssetState, ThumbnailSizes


class Refusals:
    """The repository of refused originals. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def refuse(
        self,
        draft: AssetDraft,
        error: str,
        *,
        code: str,
        release: str,
        check: Check | None = None,
    ) -> Asset:
        """Record an original that cannot be served, and why: a new version in the state failed.
        `draft.source` says where the original is. Objects of an earlier version become unwanted.
        Nothing changes while an accepted ingest of the asset waits or runs. Raises what `check`
        raises.
        """
        async with self._pool.transaction() as connection:
            known = await lock_asset(connection, draft.id)
            if check is not None:
                check(known)
            if known is not None and known.is_pending:
                return known
            asset = await write_version(
                connection,
                draft,
                version=await next_version(connection),
                generation=await next_generation(connection),
                state=AssetState.FAILED,
                source=draft.source,
                thumbnails=ThumbnailSizes(),
            )
            await settle(connection, draft.id, asset)
            row = await connection.fetchrow(
                f"""UPDATE assets SET error = $4, error_code = $5, error_release = $6
                    WHERE {WHERE} RETURNING {COLUMNS}""",  # noqa: S608  constants
                *key(draft.id),
                error,
                code,
                release,
            )
            return asset if row is None else asset_of(row)
