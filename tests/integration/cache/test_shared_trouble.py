"""A folder shared by several hosts when the database, a commit or a row is not what it was."""

from __future__ import annotations

import math

import asyncpg

from orchestrator.cache.layout import place
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.migrating import migrations
from orchestrator.settings import Database
from tests.support.servers import database, postgres
from tests.support.sharing import Host, bring, catalog, host, root, source

__all__ = ["catalog", "database", "host", "postgres", "root"]


async def test_what_is_to_be_dropped_has_an_age(host: Host, catalog: Catalog) -> None:
    shared = await host()
    await bring(shared, source(1))
    async with shared.held(source(1)):
        await shared.drop_asset("1/1/1")
    [row] = await catalog.shared_files.of_asset(shared.room.id(), place(source(1)).asset)
    assert math.isfinite(row.age_s)


async def test_what_an_earlier_release_dropped_is_given_an_age(
    host: Host, catalog: Catalog, database: Database
) -> None:
    shared = await host()
    await bring(shared, source(1))
    connection = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        await connection.execute("UPDATE shared_files SET last_used = '-infinity'")
        await connection.execute(migrations()["0007_doomed"])
    finally:
        await connection.close()
    [row] = await catalog.shared_files.of_asset(shared.room.id(), place(source(1)).asset)
    assert math.isfinite(row.age_s)
