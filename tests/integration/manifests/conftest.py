"""The whole product in one process, on real sockets, over a database with a few assets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.catalog.values import AssetDraft
from orchestrator.model import Asset, AssetId, Source, SourceKind
from orchestrator.settings import Ico, Manifests
from tests.integration.ico.conftest import Reply, Site, open_site
from tests.support.server_fixtures import new_database


@dataclass
class Library:
    """The product, and what tests do with it."""

    site: Site
    key: str
    """An admin key of the private port."""

    async def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """One request of the public port."""
        return await self.site.ask(path, method, **headers)

    async def document(self, path: str, **headers: str) -> dict[str, Any]:
        """A document of the public port. Fails unless the answer is 200."""
        reply = await self.get(path, **headers)
        assert reply.status == 200, reply.body
        document: dict[str, Any] = json.loads(reply.body)
        return document

    async def call(self, method: str, path: str, body: Any = None) -> Reply:
        """One request of the private port."""
        async with self.site.session.request(
            method,
            f"{self.site.private}{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.key}"},
        ) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, headers, await response.read())

    async def add(self, name: str, customer: int = 1, space: int = 1, **changes: Any) -> Asset:
        """Register an asset. No file is behind it: documents need none."""
        source = Source(
            location="file:///pictures/a.jpg",
            kind=SourceKind.ORIGINAL,
            bytes=100,
            fingerprint="1-100",
            extension="jpg",
            tile_width=256,
            tile_height=256,
            levels=3,
        )
        values: dict[str, Any] = {
            "id": AssetId(customer, space, name),
            "origin": "/pictures/a.jpg",
            "width": 4000,
            "height": 3000,
            "media_type": "image/jpeg",
            "source": source,
        }
        draft = AssetDraft(**{**values, **changes})
        return (await self.site.services.catalog.versions.register(draft)).asset

    def token(self, *roles: str) -> dict[str, str]:
        """The header with a token that has these roles."""
        return {"Authorization": f"Bearer {self.site.services.tokens.create(list(roles), 600)}"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def library(
    postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Library]:
    dsn = await new_database(postgres)
    folder = tmp_path_factory.mktemp("data")
    async with open_site(dsn, folder, Ico(), manifests=Manifests(page_size=5)) as site:
        key = await site.services.catalog.keys.create(1, admin=True)
        yield Library(site, key.token)
