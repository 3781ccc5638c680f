"""Both implementations of the object store, and the S3 server that one of them needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.settings import Storage
from orchestrator.storage.store import ObjectStore
from orchestrator.storage.store_factory import open_store
from tests.support.server_fixtures import S3Server, s3_server

__all__ = ["s3_server", "store"]


@pytest.fixture(params=["filesystem", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        settings = server.storage()
    else:
        settings = Storage(root=tmp_path / "objects")
    async with open_store(settings, tmp_path) as opened:
        yield opened
