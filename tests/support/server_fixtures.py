"""Fixtures with real servers, one of each per test process: `tests/conftest.py` imports them.

Ports are free ones (PostgreSQL has only a Unix socket), data is in pytest's temporary folders, and
each server is stopped at the end.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.embedded.database import embedded
from orchestrator.catalog.migrator import migrate
from orchestrator.settings import Database, Storage
from tests.support.jobs import moto
from tests.support.patience import ANSWER_S
from tests.support.weed import BUCKET, CREDENTIALS, weed

_numbers = itertools.count(1)
_MIGRATED = "migrated"
"""The database that others are copied from: a migration takes ten times as long as a copy."""


@dataclass(frozen=True)
class S3Server:
    """An S3 server with one bucket."""

    endpoint: str

    def storage(self, **changes: object) -> Storage:
        """Settings of a store in the bucket; every call uses a new prefix."""
        access, secret = CREDENTIALS
        values = {
            "kind": "s3",
            "endpoint": self.endpoint,
            "bucket": BUCKET,
            "prefix": f"t{next(_numbers)}-{secrets.token_hex(3)}",
            "access_key": SecretStr(access),
            "secret_key": SecretStr(secret),
            **changes,
        }
        return Storage.model_validate(values)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with ExitStack() as stack:
        yield S3Server(_start(stack, tmp_path_factory))


@pytest.fixture(scope="session")
def sqs_server() -> Iterator[str]:
    """The address of a server with the SQS API."""
    with moto() as address:
        yield address


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL server. Most tests use the fixture `database` instead."""
    with embedded(tmp_path_factory.mktemp("postgres")) as server:
        asyncio.run(_prepare(server.dsn))
        yield server.dsn


@pytest.fixture
async def database(postgres: str) -> Database:
    """Settings of a database with the present schema and no rows."""
    return settings_of(await new_database(postgres))


@pytest.fixture
async def empty_database(postgres: str) -> Database:
    """Settings of a database without a schema."""
    return settings_of(await new_database(postgres, schema=False))


async def new_database(postgres: str, *, schema: bool = True) -> str:
    """Create a database on the server; its address. `schema`: it is migrated and has no rows."""
    name = f"test_{next(_numbers)}"
    template = _MIGRATED if schema else "template1"
    await _run_sql(postgres, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    return _address(postgres, name)


def settings_of(dsn: str) -> Database:
    """Settings of a database, with time-outs that hold on a busy machine."""
    return Database(
        dsn=SecretStr(dsn),
        connect_timeout_s=10,
        query_timeout_s=30,
        answer_timeout_s=ANSWER_S,
    )


async def _prepare(postgres: str) -> None:
    # Tests kill processes, never the machine, so nothing needs to reach the disk. The vacuum would
    # visit the databases of all tests that have ended.
    for setting in ("fsync", "full_page_writes", "autovacuum"):
        await _run_sql(postgres, f"ALTER SYSTEM SET {setting} = off")
    await _run_sql(postgres, "SELECT pg_reload_conf()")
    await _run_sql(postgres, f"CREATE DATABASE {_MIGRATED}")
    await migrate(settings_of(_address(postgres, _MIGRATED)))
    # The first connection writes the file with the descriptions of the system tables, which takes
    # longer than the connection. Copies of the database have it, too.
    await _run_sql(_address(postgres, _MIGRATED), "SELECT 1")


async def _run_sql(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _address(postgres: str, name: str) -> str:
    return urlsplit(postgres)._replace(path=f"/{name}").geturl()


@pytest.fixture
async def catalog(database: Database) -> AsyncIterator[Catalog]:
    """The catalogue in that database."""
    opened = await Catalog.open(database)
    yield opened
    await opened.close()


def _start(stack: ExitStack, folders: pytest.TempPathFactory) -> str:
    """Start the server; once more if another process took its free port first."""
    try:
        return stack.enter_context(weed(folders.mktemp("s3")))
    except TimeoutError:
        return stack.enter_context(weed(folders.mktemp("s3")))
