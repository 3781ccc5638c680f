"""Both implementations of the object store, and the S3 server that one of them needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.settings import Storage
from orchestrator.storage.s3_client import open_client
from orchestrator.storage.s3_store import S3Store
from orchestrator.storage.store import ObjectStore
from orchestrator.storage.store_factory import open_store
from tests.support.server_fixtures import S3Server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bucket_client(s3_server: S3Server) -> AsyncIterator[Any]:
    """A client for all tests, which takes longer to open than most of them."""
    async with open_client(s3_server.storage()) as client:
        yield client


@pytest.fixture
def bucket_store(bucket_client: Any, s3_server: S3Server) -> S3Store:
    settings = s3_server.storage()
    return S3Store(bucket_client, settings.bucket, settings.prefix)


@pytest_asyncio.fixture(loop_scope="session")
async def folder_store(tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with open_store(Storage(root=tmp_path / "objects"), tmp_path) as opened:
        yield opened


@pytest.fixture(params=["filesystem", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """Each of them, empty."""
    found: ObjectStore = request.getfixturevalue(
        "bucket_store" if request.param == "s3" else "folder_store"
    )
    return found
