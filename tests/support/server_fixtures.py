"""Fixtures with real servers, one of each per test process. The conftest.py of a folder imports
them.

Ports are free ones (PostgreSQL has only a Unix socket), data is in pytest's temporary folders, and
each server is stopped at the end.
"""

from __future__ import annotations

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
from tests.support.patience import ANSWER_S
from tests.support.weed import BUCKET, CREDENTIALS, weed

_numbers = itertools.count(1)


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
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL server. Most tests use the fixture `database` instead."""
    with embedded(tmp_path_factory.mktemp("postgres")) as server:
        yield server.dsn


@pytest.fixture
async def database(postgres: str) -> Database:
    """Settings of an empty database."""
    return await create_database(postgres)


async def create_database(postgres: str) -> Database:
    """Create an empty database on the server; return its settings."""
    name = f"test_{next(_numbers)}"
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    dsn = urlsplit(postgres)._replace(path=f"/{name}").geturl()
    return Database(
        dsn=SecretStr(dsn),
        connect_timeout_s=10,
        query_timeout_s=30,
        answer_timeout_s=ANSWER_S,
    )


@pytest.fixture
async def catalog(database: Database) -> AsyncIterator[Catalog]:
    """The catalogue in that database."""
    await migrate(database)
    opened = await Catalog.open(database)
    yield opened
    await opened.close()


def _start(stack: ExitStack, folders: pytest.TempPathFactory) -> str:
    """Start the server; once more if another process took its free port first."""
    try:
        return stack.enter_context(weed(folders.mktemp("s3")))
    except TimeoutError:
        return stack.enter_context(weed(folders.mktemp("s3")))
