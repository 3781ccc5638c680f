"""The real API over all real parts (PostgreSQL, an object store, imaging, origins on loopback), on
a real socket, once a test module.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from pydantic import SecretStr

from orchestrator.app import Services, open_services
from orchestrator.settings import Api as ApiSettings
from orchestrator.settings import Cache, Database, Imaging, Ingest, Server, Settings
from orchestrator.web.api.api_factory import build_api
from orchestrator.web.health_routes import HealthRoutes, MetricsRoute
from orchestrator.web.listen_socket import open_listen_socket
from orchestrator.web.middleware import PortMiddleware
from orchestrator.web.port_runner import PortRunner
from orchestrator.web.port_state import PortState
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.routes import build_private_app
from tests.support import pictures
from tests.support.origins import OriginServer, origin_server
from tests.support.patience import ANSWER_S
from tests.support.server_fixtures import new_database

MAX_BATCH = 50
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["code"])


@dataclass
class House:
    """The API and everything behind it."""

    services: Services
    origins: OriginServer
    session: aiohttp.ClientSession
    port: int
    admin: str = ""
    keys: dict[int, str] = field(default_factory=dict)

    async def customer(self) -> int:
        """A new customer with a key."""
        made = await self.services.catalog.customers.create(f"customer {next(_numbers)}")
        self.keys[made.id] = (await self.services.catalog.keys.create(made.id)).token
        return made.id

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | int | None = None,
        redirect: bool = True,
        **headers: str,
    ) -> Reply:
        """One request. `key`: a token, a customer's number; None: the key of the path's customer,
        else the admin's; "" for none.
        """
        wire = {name.replace("_", "-"): value for name, value in headers.items()}
        token = self._token(path, key)
        if token:
            wire.setdefault("Authorization", f"Bearer {token}")
        data = body
        if body is not None and not isinstance(body, bytes):
            data = json.dumps(body).encode()
            wire.setdefault("Content-Type", "application/json")
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.request(
            method,
            _raw(url),
            data=data,
            headers=wire,
            skip_auto_headers=["Content-Type"],
            allow_redirects=redirect,
        ) as response:
            headers_of = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, headers_of, await response.read())

    def _token(self, path: str, key: str | int | None) -> str:
        if isinstance(key, str):
            return key
        if key is None:
            found = re.match(r"/customers/(\d+)/", path)
            key = int(found[1]) if found else 0
        return self.keys.get(key, self.admin)

    def picture(self, width: int = 300, height: int = 200, name: str = "") -> str:
        """The address of a picture on the origin server, a new one every time."""
        path = f"/{name or f'p{next(_numbers)}'}.jpg"
        folder = self.services.settings.data_dir
        made = pictures.jpeg(folder / path[1:], width, height)
        self.origins.files[path] = made.read_bytes()
        return self.origins.url(path)


def _raw(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)


def settings_for(dsn: str, data: Path) -> Settings:
    return Settings(
        server=Server(data_dir=data),
        database=Database(dsn=SecretStr(dsn), pool_max=10, answer_timeout_s=ANSWER_S),
        cache=Cache(free_space_floor=0),
        imaging=Imaging(processes=1),
        ingest=Ingest(
            thumbnail_policy=[200, 100, 50],
            optimisation_policy="fastest",
            allow_private_addresses=True,
            read_timeout_s=1,
            total_timeout_s=3,
        ),
        api=ApiSettings(max_batch=MAX_BATCH, sync_ingests=4, body_timeout_s=1),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    dsn = await new_database(postgres)
    async with open_house(settings_for(dsn, tmp_path_factory.mktemp("data"))) as house:
        yield house


@asynccontextmanager
async def open_house(settings: Settings) -> AsyncIterator[House]:
    """The API with these settings."""
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services(settings))
        port_state = PortState(addresses=PublicAddressResolver((), {}), private=True)
        middleware = PortMiddleware(port_state, cache_error="no-store", cache_secret="no-store")
        api = build_api(services, settings, "test")
        app = build_private_app(middleware, HealthRoutes({}), MetricsRoute(), api)
        runner = PortRunner(app, port_state, keepalive_s=5, drain_s=2)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        port = await runner.listen(open_listen_socket("127.0.0.1", 0, shared=False))
        origins = await stack.enter_async_context(origin_server())
        # Idle connections are closed before the server closes them: a request is never sent on one
        # that is just being closed.
        connector = aiohttp.TCPConnector(keepalive_timeout=2)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        house = House(services, origins, session, port)
        house.admin = (await services.catalog.keys.create(1, admin=True)).token
        house.keys[1] = (await services.catalog.keys.create(1)).token
        yield house
