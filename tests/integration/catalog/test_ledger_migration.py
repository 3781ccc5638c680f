"""Migrating an installation without a ledger enters its objects, under the keys they have."""

from __future__ import annotations

from dataclasses import asdict

import asyncpg
import orjson
import pytest

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.migrator import migrate, migrations
from orchestrator.model import STORE, Asset, AssetId, AssetState, ThumbnailSizes
from orchestrator.settings import Database
from orchestrator.storage import object_keys as keys
from tests.support.builders import a_source, an_asset
from tests.support.ingesting import keys_named_by

NAMES = [
    "plain",
    "with space.tif",
    "a/b/c",
    "100%",
    "%2F",
    "caf\u00e9~x",
    "\u65e5\u672c\U0001f5bc",
    "'; DROP --",
    "x" * 210,
]


def a_stored_asset(name: str) -> Asset:
    asset_id = AssetId(1, 2, name)
    key = keys.source_key(asset_id, 7, "jp2")
    sizes = ThumbnailSizes(open=((200, 150), (75, 100)), auth=((400, 300),))
    return an_asset(
        id=asset_id,
        version=9,
        thumbnails=sizes,
        thumbnails_version=7,
        source=a_source(location=STORE + key, bytes=1000),
    )


def an_asset_in_place(name: str) -> Asset:
    """Tile-ready where it is: thumbnails only, and its row names no key of the store."""
    asset = a_stored_asset(name)
    return an_asset(
        id=AssetId(1, 3, name),
        version=9,
        thumbnails=asset.thumbnails,
        thumbnails_version=7,
        source=a_source(location="file:///pictures/a.jp2"),
    )


async def install_without_ledger(database: Database, assets: list[Asset]) -> None:
    connection = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        await connection.execute(migrations()["0001_catalogue"])
        for asset in assets:
            await connection.execute(
                """INSERT INTO assets (customer, space, name, version, state, width, height,
                       thumbnails, thumbnails_version, source)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)""",
                asset.id.customer,
                asset.id.space,
                asset.id.name,
                asset.version,
                AssetState.READY,
                asset.width,
                asset.height,
                orjson.dumps({"o": asset.thumbnails.open, "a": asset.thumbnails.auth}).decode(),
                asset.thumbnails_version,
                orjson.dumps(asdict(asset.source)).decode() if asset.source else None,
            )
        for name in list(migrations())[1:]:
            await connection.execute(migrations()[name])
    finally:
        await connection.close()


@pytest.mark.parametrize("name", NAMES)
async def test_every_existing_object_is_in_the_ledger(empty_database: Database, name: str) -> None:
    assets = [a_stored_asset(name), an_asset_in_place(name)]
    await install_without_ledger(empty_database, assets)
    catalog = await Catalog.open(empty_database)
    try:
        rows = await catalog.objects.page()
        assert {row.object.key for row in rows} == {k for a in assets for k in keys_named_by(a)}
        assert {row.state for row in rows} == {"live"}
        use = await catalog.quotas.get(1)
        assert (use.images, use.stored) == (2, 1000)
    finally:
        await catalog.close()


async def test_a_new_installation_starts_with_an_empty_ledger(empty_database: Database) -> None:
    await migrate(empty_database)
    catalog = await Catalog.open(empty_database)
    try:
        assert await catalog.objects.page() == []
    finally:
        await catalog.close()
