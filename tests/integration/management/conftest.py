"""The whole product in one process, on real sockets, with workers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio
from yarl import URL

from orchestrator.model import Asset, AssetId
from orchestrator.settings import Ico
from tests.integration.catalog.test_assets import a_draft
from tests.integration.ico.conftest import Reply, Site, open_site
from tests.support.server_fixtures import new_database


@dataclass
class Installation:
    """The product, and what tests do with it."""

    site: Site
    admin: str
    keys: dict[int, str] = field(default_factory=dict)

    async def customer(self, name: str) -> int:
        """A new customer with a key."""
        made = await self.site.services.catalog.customers.create(name)
        self.keys[made.id] = (await self.site.services.catalog.keys.create(made.id)).token
        return made.id

    async def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """One request of the public port."""
        return await self.site.ask(path, method, **headers)

    async def document(self, path: str, **headers: str) -> Any:
        """A JSON document of the public port. Fails unless the answer is 200."""
        reply = await self.get(path, **headers)
        assert reply.status == 200, reply.body
        return json.loads(reply.body)

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> Reply:
        """One request of the private port; `body` is sent as JSON unless it is bytes."""
        wire = {"Authorization": f"Bearer {self.admin if key is None else key}"}
        wire |= {name.replace("_", "-"): value for name, value in headers.items()}
        content: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        url = URL(f"{self.site.private}{path}", encoded=True)
        async with self.site.session.request(method, url, headers=wire, **content) as response:
            fields = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, fields, await response.read())

    async def register(self, asset_id: AssetId, **changes: Any) -> Asset:
        """Register an asset. No file is behind it."""
        draft = replace(a_draft(asset_id.name, **changes), id=asset_id)
        return (await self.site.services.catalog.versions.register(draft)).asset


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(
    postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    dsn = await new_database(postgres)
    async with open_site(dsn, tmp_path_factory.mktemp("data"), Ico()) as site:
        key = await site.services.catalog.keys.create(1, admin=True)
        yield Installation(site, key.token)
