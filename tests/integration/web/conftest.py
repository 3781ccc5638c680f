"""A small application behind our protocol on a real socket, under both event loops."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvloop
from aiohttp import web

from orchestrator.cache.disk.cache import DiskCache, Product
from orchestrator.cache.hot.tier import HeadsOf, HotTier
from orchestrator.errors import AssetNotFound
from orchestrator.model import AssetId
from orchestrator.routing.delivery_types import Delivery
from orchestrator.web.access_log import AccessLog
from orchestrator.web.direct_answers import DirectAnswers
from orchestrator.web.hot_entries import HotEntry, shorten_to_head, store_hot
from orchestrator.web.listen_socket import open_listen_socket
from orchestrator.web.middleware import PortMiddleware
from orchestrator.web.port_runner import PortRunner
from orchestrator.web.port_state import PortLimits, PortState
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import (
    respond,
)
from tests.support.patience import patience

TILE = b"\xff\xd8\xff" + bytes(range(256)) * 48
INFO = b'{"id": "x"}' + b" " * 2000
LARGE = random.Random(7).randbytes(900_000)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Each test here runs twice: transports differ in when they write, pause and read."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@dataclass
class House:
    """The running application and what it did."""

    port: int
    port_state: PortState
    hot: HotTier[HotEntry]
    runner: PortRunner
    handled: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    products: dict[str, Product] = field(default_factory=dict)
    """The products of the disk cache that have the bodies of answers, by name."""
    clients: list[Client] = field(default_factory=list)

    async def leave(self) -> None:
        """Close whatever clients are left."""
        for client in self.clients:
            client.close()
        await asyncio.sleep(0.01)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def get(self, target: str, *lines: str, method: str = "GET") -> bytes:
        """A request's bytes."""
        head = [f"{method} {target} HTTP/1.1", f"Host: {self.host}", *lines, "", ""]
        return "\r\n".join(head).encode()

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**22)
        client = Client(self, reader, writer)
        self.clients.append(client)
        return client

    async def warm(self, target: str = "/tile", *lines: str) -> None:
        """Ask once, so that the next one comes from memory."""
        async with asyncio.timeout(5 * patience()):
            client = await self.connect()
            await client.ask(self.get(target, *lines))
            client.close()


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def tier(self) -> str:
        return self.headers.get("x-served-from", "")


@dataclass
class Client:
    """One connection, read answer by answer."""

    house: House
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head: bool = False) -> Reply:
        async with asyncio.timeout(10 * patience()):
            block = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = block.rstrip().split("\r\n")
            headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
            status = int(first.split()[1])
            length = 0 if head or status == 304 else int(headers.get("content-length", 0))
            return Reply(status, headers, await self.reader.readexactly(length))

    async def ask(self, data: bytes, *, head: bool = False) -> Reply:
        self.send(data)
        return await self.answer(head=head)

    async def closed(self) -> bool:
        """Whether the server ends the connection without another byte."""
        async with asyncio.timeout(10 * patience()):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True

    def close(self) -> None:
        self.writer.close()


def _delivery(name: str, request: web.Request, product: Product | None) -> Delivery:
    body = {"info": INFO, "large": LARGE}.get(name, TILE)
    return Delivery(
        status=200,
        body=body,
        media_type="application/json" if name == "info" else "image/jpeg",
        tier="disk",
        request_class="info" if name == "info" else "tile",
        cache_control="public, max-age=3600",
        asset=AssetId(1, 1, name),
        version=1,
        last_modified=datetime(2026, 1, 1, tzinfo=UTC),
        public=name in ("tile", "info", "large"),
        vary="Accept" if name == "info" else "",
        gzip=gzip.compress(body, mtime=0) if name == "info" else None,
        headers=(("Link", f'<http://{request.host}/{name}>;rel="canonical"'),),
        product=product,
    )


def _application(house: House, addresses: PublicAddressResolver) -> web.Application:
    async def picture(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        house.handled.append(name)
        if name == "slow":
            await house.gate.wait()
        if name == "missing":
            raise AssetNotFound("There is no such image here.")
        if name == "broken":
            raise RuntimeError("/very/secret")
        token = house.hot.token()
        delivery = _delivery(name, request, house.products.get(name))
        store_hot(house.hot, request, addresses.resolve_request(request).base, delivery, token)
        return respond(request, delivery)

    async def upload(request: web.Request) -> web.StreamResponse:
        return web.json_response({"bytes": len(await request.read())})

    middleware = PortMiddleware(house.port_state, cache_error="max-age=10", cache_secret="no-store")
    app = web.Application(middlewares=[middleware.handle])
    app.router.add_get("/{name}", picture)
    app.router.add_post("/in/upload", upload)
    return app


@asynccontextmanager
async def a_house(
    *,
    limits: PortLimits | None = None,
    log: Path | None = None,
    proxies: tuple[str, ...] = (),
    memory: int = 64 * 1024**2,
    disk: DiskCache | None = None,
    keepalive_s: float = 60,
    drain_s: float = 60,
) -> AsyncIterator[House]:
    """The application on a free port, ended afterwards. With a `disk` cache, the hot lane also
    answers from its files.
    """
    async with AsyncExitStack() as stack:
        addresses = PublicAddressResolver(proxies, {})
        heads = HeadsOf(2**20, shorten_to_head(2**18)) if disk is not None else None
        hot: HotTier[HotEntry] = HotTier(memory, 2**20, heads=heads)
        access_log = AccessLog(str(log)) if log is not None else None
        if access_log is not None:
            stack.callback(access_log.close)
        port_state = PortState(
            addresses=addresses, hot=hot, access_log=access_log, limits=limits, auth_cookie="ticket"
        )
        if disk is not None:
            port_state.answer_directly(DirectAnswers(lambda *_: None, hot, disk.bodies).find)
        house = House(0, port_state, hot, None)  # type: ignore[arg-type]  # set below
        house.runner = PortRunner(
            _application(house, addresses), port_state, keepalive_s=keepalive_s, drain_s=drain_s
        )
        await house.runner.setup()
        stack.push_async_callback(house.runner.cleanup)
        stack.push_async_callback(house.leave)
        house.port = await house.runner.listen(open_listen_socket("127.0.0.1", 0, shared=True))
        yield house


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with a_house() as running:
        yield running
