"""Real servers as fixtures, one of each per test process: import them in a folder's conftest.py.

Ports are free ones (PostgreSQL has a Unix socket only), data lies in pytest's temporary folders,
and each is stopped at the end whatever happened.
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
from tests.support.weed import BUCKET, CREDENTIALS, weed

_numbers = itertools.count(1)


@dataclass(frozen=True)
class S3Server:
    """An S3 server with one bucket."""

    endpoint: str

    def storage(self, **changes: object) -> Storage:
        """Settings of a store of its own in the bucket: every call gives another prefix."""
        access, secret = CREDENTIALS
        given = {
            "kind": "s3",
            "endpoint": self.endpoint,
            "bucket": BUCKET,
            "prefix": f"t{next(_numbers)}-{secrets.token_hex(3)}",
            "access_key": SecretStr(access),
            "secret_key": SecretStr(secret),
            **changes,
        }
        return Storage.model_validate(given)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with ExitStack() as stack:
        yield S3Server(_started(stack, tmp_path_factory))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL server; `database` is what most tests want."""
    with embedded(tmp_path_factory.mktemp("postgres")) as server:
        yield server.dsn


@pytest.fixture
async def database(postgres: str) -> Database:
    """Settings of an empty database."""
    name = f"test_{next(_numbers)}"
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    dsn = urlsplit(postgres)._replace(path=f"/{name}").geturl()
    return Database(dsn=SecretStr(dsn), connect_timeout_s=3, query_timeout_s=5)


@pytest.fixture
async def catalog(database: Database) -> AsyncIterator[Catalog]:
    """The catalogue over that database."""
    await migrate(database)
    opened = await Catalog.open(database)
    yield opened
    await opened.close()


def _started(stack: ExitStack, folders: pytest.TempPathFactory) -> str:
    """A free port may be taken by somebody else before the server has it: then once more."""
    try:
        return stack.enter_context(weed(folders.mktemp("s3")))
    except TimeoutError:
        return stack.enter_context(weed(folders.mktemp("s3")))
