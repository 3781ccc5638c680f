"""Aliases: other names by which clients may request an asset."""

from __future__ import annotations

from collections.abc import Iterable

import asyncpg

from orchestrator.catalog.asset_transaction import (
    ALIAS,
    WHERE,
    key,
    lock_asset,
    notify,
    notify_change,
)
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.rows import is_storable
from orchestrator.errors import AssetNotFound, InvalidImageRequest, InvalidInput, StateConflict
from orchestrator.model import MAX_ASSET_ID_CHARS, AssetId


class Aliases:
    """The repository of aliases. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def resolve(self, alias: str) -> AssetId | None:
        """The asset that has this alias, or None."""
        if not is_storable(alias):
            return None
        row = await self._pool.fetchrow(
            "SELECT customer, space, name FROM aliases WHERE alias = $1", alias
        )
        return None if row is None else AssetId(row["customer"], row["space"], row["name"])

    async def of(self, asset_id: AssetId) -> list[str]:
        """The aliases of an asset, sorted."""
        rows = await self._pool.fetch(
            f"SELECT alias FROM aliases WHERE {WHERE} ORDER BY alias",  # noqa: S608  constants
            *key(asset_id),
        )
        return [row["alias"] for row in rows]

    async def replace(self, asset_id: AssetId, aliases: Iterable[str]) -> None:
        """Give the asset exactly these aliases.

        Raises AssetNotFound; Conflict when another asset has one of them; InvalidInput for an alias
        that reads as an asset id or does not have 1 to 220 characters.
        """
        names = sorted(set(aliases))
        for alias in names:
            _check(alias)
        async with self._pool.transaction() as connection:
            asset = await lock_asset(connection, asset_id)
            if asset is None:
                raise AssetNotFound(f"There is no asset {asset_id}.")
            had = await connection.fetch(
                f"DELETE FROM aliases WHERE {WHERE} RETURNING alias",  # noqa: S608  constants
                *key(asset_id),
            )
            try:
                await connection.executemany(
                    "INSERT INTO aliases VALUES ($1, $2, $3, $4)",
                    [(alias, *key(asset_id)) for alias in names],
                )
            except asyncpg.UniqueViolationError as error:
                raise StateConflict("Another asset has one of these aliases.") from error
            await notify_change(connection, asset)
            for alias in set(names).difference(row["alias"] for row in had):
                await notify(connection, ALIAS, alias)


def _check(alias: str) -> None:
    if not 0 < len(alias) <= MAX_ASSET_ID_CHARS or not is_storable(alias):
        raise InvalidInput("An alias is 1 to 220 characters.")
    try:
        AssetId.parse(alias)
    except InvalidImageRequest:
        return
    raise InvalidInput(f"{alias} reads as an asset id. Choose another alias.")
