"""A dump of a database is restored whole or not at all, and no number is given out twice."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from orchestrator.catalog.dumps import (
    SKIPPED_NUMBERS,
    Programs,
    _without_password,
    dump,
    programs_for,
    restore,
)
from orchestrator.errors import CatalogUnavailable, SchemaMismatch, StateConflict
from orchestrator.settings import Database, Server, Settings
from tests.support.server_fixtures import new_database, settings_of

SEQUENCES = "SELECT sequencename, coalesce(last_value, 0) AS last FROM pg_sequences"
TABLES = "SELECT count(*) AS number FROM pg_tables WHERE schemaname = 'public'"


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return programs_for(Settings(server=Server(data_dir=tmp_path)), os.environ)


async def run_sql(database: Database, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def last_numbers(database: Database) -> dict[str, int]:
    return {row["sequencename"]: row["last"] for row in await run_sql(database, SEQUENCES)}


async def test_a_restored_database_has_the_rows_and_continues_the_numbers_later(
    database: Database, postgres: str, tmp_path: Path, programs: Programs
) -> None:
    await run_sql(database, "INSERT INTO customers (id, name) VALUES (7, 'seven')")
    await run_sql(database, "SELECT nextval('generations')")
    file = tmp_path / "database.dump"
    await dump(database, file, programs)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    fresh = settings_of(await new_database(postgres, schema=False))
    assert await restore(fresh, file, programs) == []

    [customer] = await run_sql(fresh, "SELECT name FROM customers WHERE id = 7")
    assert customer["name"] == "seven"
    before, after = await last_numbers(database), await last_numbers(fresh)
    assert before["generations"] == 1
    assert after.pop("deleted_customers") == before["deleted_customers"]
    assert [name for name in after if after[name] < before[name] + SKIPPED_NUMBERS] == []

    with pytest.raises(StateConflict, match="not empty"):
        await restore(fresh, file, programs)


async def test_a_dump_that_fails_leaves_the_one_before(
    database: Database, tmp_path: Path, programs: Programs
) -> None:
    file = tmp_path / "database.dump"
    file.write_bytes(b"yesterday")
    missing = database.dsn.get_secret_value().replace("?host", "_missing?host")
    with pytest.raises(CatalogUnavailable, match="pg_dump failed"):
        await dump(Database(dsn=SecretStr(missing)), file, programs)
    assert file.read_bytes() == b"yesterday"
    assert list(tmp_path.iterdir()) == [file]


async def test_a_damaged_dump_restores_nothing(
    database: Database, postgres: str, tmp_path: Path, programs: Programs
) -> None:
    file = tmp_path / "database.dump"
    await dump(database, file, programs)
    file.write_bytes(file.read_bytes()[:-4000])
    fresh = settings_of(await new_database(postgres, schema=False))
    with pytest.raises(CatalogUnavailable, match="pg_restore failed"):
        await restore(fresh, file, programs)
    [tables] = await run_sql(fresh, TABLES)
    assert tables["number"] == 0


async def test_a_dump_of_a_later_release_is_named(
    database: Database, postgres: str, tmp_path: Path, programs: Programs
) -> None:
    await run_sql(database, "INSERT INTO migrations VALUES ('9999_of_the_future', '')")
    file = tmp_path / "database.dump"
    await dump(database, file, programs)
    with pytest.raises(SchemaMismatch, match="9999_of_the_future"):
        await restore(settings_of(await new_database(postgres, schema=False)), file, programs)


@pytest.mark.parametrize(
    ("dsn", "address", "password"),
    [
        ("postgresql://me:s%40fe@db:5432/x", "postgresql://me@db:5432/x", "s@fe"),
        ("postgresql://me@db/x", "postgresql://me@db/x", ""),
        (
            "postgresql://postgres@/postgres?host=/run",
            "postgresql://postgres@/postgres?host=/run",
            "",
        ),
    ],
)
def test_the_password_is_no_argument_of_a_program(dsn: str, address: str, password: str) -> None:
    assert _without_password(dsn) == (address, password)


def test_a_configured_database_is_dumped_by_the_programs_of_the_path(tmp_path: Path) -> None:
    configured = Settings(database=Database(dsn=SecretStr("postgresql://me@db/x")))
    programs = programs_for(configured, {"PATH": str(tmp_path)})
    with pytest.raises(CatalogUnavailable, match="pg_dump is missing"):
        programs.find("pg_dump")
    (tmp_path / "pg_dump").touch(0o755)
    assert programs.find("pg_dump") == str(tmp_path / "pg_dump")
