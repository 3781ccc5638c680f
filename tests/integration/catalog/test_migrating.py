"""Migrations are applied once, in order, also by concurrent processes."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from pydantic import SecretStr

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.migrator import migrate, migrations, pending
from orchestrator.errors import CatalogUnavailable
from orchestrator.settings import Database
from tests.support.serve_process import free_port


async def test_migrations_are_applied_once_and_their_names_returned(
    empty_database: Database,
) -> None:
    names = list(migrations())
    assert names == sorted(names)
    assert await pending(empty_database) == names
    assert await pending(empty_database) == names  # looking makes nothing
    assert await migrate(empty_database) == names
    assert await migrate(empty_database) == []
    assert await pending(empty_database) == []


async def test_one_of_several_concurrent_processes_migrates(empty_database: Database) -> None:
    done = await asyncio.gather(*(migrate(empty_database) for _ in range(8)))
    assert sorted(map(len, done)) == [0] * 7 + [len(migrations())]


async def test_an_applied_migration_whose_text_changed_is_refused(empty_database: Database) -> None:
    await migrate(empty_database)
    connection = await asyncpg.connect(empty_database.dsn.get_secret_value())
    try:
        await connection.execute("UPDATE migrations SET digest = 'another'")
    finally:
        await connection.close()
    with pytest.raises(CatalogUnavailable, match="another text of migration"):
        await migrate(empty_database)


async def test_a_database_of_a_later_release_is_refused_and_not_changed(
    empty_database: Database,
) -> None:
    await migrate(empty_database)
    connection = await asyncpg.connect(empty_database.dsn.get_secret_value())
    try:
        await connection.execute("DELETE FROM migrations WHERE name = $1", max(migrations()))
        await connection.execute("INSERT INTO migrations VALUES ('9999_of_the_future', '')")
        with pytest.raises(CatalogUnavailable, match=r"later release.*9999_of_the_future"):
            await migrate(empty_database)
        with pytest.raises(CatalogUnavailable, match="later release"):
            await pending(empty_database)
        names = await connection.fetch("SELECT name FROM migrations")
        assert max(migrations()) not in {row["name"] for row in names}
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        ("postgresql://postgres@127.0.0.1:{port}/x", "does not answer"),
        ("postgresql://postgres@/x?host=/nowhere/at/all", "does not answer"),
        ("mysql://what/is/this", "does not answer"),
        ("{server}_missing", "database.dsn"),
    ],
)
async def test_a_database_that_cannot_be_reached_is_unavailable(
    empty_database: Database, dsn: str, message: str
) -> None:
    known = empty_database.dsn.get_secret_value().replace("?host", "_missing?host")
    text = known if "{server}" in dsn else dsn.format(port=free_port())
    settings = empty_database.model_copy(update={"dsn": SecretStr(text)})
    with pytest.raises(CatalogUnavailable, match=message):
        await migrate(settings)
    with pytest.raises(CatalogUnavailable, match=message):
        await Catalog.open(settings.model_copy(update={"pool_min": 1}))
    catalog = await Catalog.open(settings)  # which waits with connecting until it has to
    with pytest.raises(CatalogUnavailable, match=message):
        await catalog.customers.list()
    await catalog.close()
