"""The whole product in one process (public port, jobs, housekeeping) with /ico over a folder or a
real bucket, on a real socket.
"""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image
from pydantic import SecretStr
from yarl import URL

from orchestrator.app import Services, open_services
from orchestrator.processes.roles import Process
from orchestrator.settings import Cache, Database, Ico, Imaging, Server, Settings
from orchestrator.storage.picture_store import PictureStore
from orchestrator.storage.s3_store import open_s3
from tests.support.patience import ANSWER_S, patience
from tests.support.serve_process import free_port
from tests.support.server_fixtures import S3Server
from tests.support.weed import BUCKET, CREDENTIALS

SEED = "d2lkdGg9NTAwLGZpdD1jcm9wCg=="
"""`width=500,fit=crop` and a line break."""
PURGE_SECRET = "a-secret-for-purging"
SIGNING_SECRET = "a-secret-for-signing"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Reply:
    """A whole answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def tier(self) -> str:
        return self.headers.get("x-served-from", "")

    @property
    def size(self) -> tuple[int, int]:
        return Image.open(io.BytesIO(self.body)).size


@dataclass
class Site:
    """A running installation and the store of its originals."""

    services: Services
    store: PictureStore
    session: aiohttp.ClientSession
    base: str
    private: str
    prefix: str = field(default_factory=lambda: f"t{next(_numbers)}")

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """One request; `path` is sent as it is. Header names are written with `_` for `-`."""
        wire = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(f"{self.base}{path}", encoded=True)
        async with self.session.request(method, url, headers=wire) as response:
            fields = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, fields, await response.read())

    async def ask_for_memory(self, path: str, **headers: str) -> Reply:
        """Ask until the answer comes from memory. One more request may be needed: a notice about an
        earlier change or a lost connection to the database drops what was just kept.
        """
        async with asyncio.timeout(30 * patience()):
            while (reply := await self.ask(path, **headers)).tier != "memory":
                await asyncio.sleep(0.02)
        return reply

    async def put(self, key: str, body: bytes) -> None:
        await self.store.put(key, body, media_type="image/jpeg", metadata=None, cache_control="")

    async def keys(self, prefix: str = "") -> list[str]:
        """The keys in the store."""
        return sorted([info.key async for info in self.store.list(prefix)])

    async def until_published(self) -> None:
        """Wait until the results of all answers are in the disk cache."""
        async with asyncio.timeout(30 * patience()):
            while self.services.flights.in_flight:
                await asyncio.sleep(0.02)

    async def until_settled(self) -> None:
        """Wait until the results of all answers are published and stored."""
        await self.until_published()
        async with asyncio.timeout(30 * patience()):
            while await self.services.catalog.jobs.page(1, states=("queued", "running")):
                await asyncio.sleep(0.02)

    async def until_stored(self, key: str, within_s: float = 30) -> Any:
        """Wait until the store has this object; its description."""
        async with asyncio.timeout(within_s * patience()):
            while key not in await self.keys(key):
                await asyncio.sleep(0.02)
        return await self.store.head(key)


def jpeg(width: int, height: int, colour: tuple[int, int, int] = (200, 40, 40)) -> bytes:
    """A JPEG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "JPEG")
    return buffer.getvalue()


@asynccontextmanager
async def open_site(dsn: str, data: Path, ico: Ico, **sections: Any) -> AsyncIterator[Site]:
    """The product with these settings of /ico, until the end of the block."""
    sections.setdefault("cache", Cache(free_space_floor=0))
    settings = Settings(
        server=Server(
            data_dir=data, host="127.0.0.1", port=free_port(), private_port=free_port(), drain_s=2
        ),
        database=Database(dsn=SecretStr(dsn), pool_max=10, answer_timeout_s=ANSWER_S),
        imaging=Imaging(processes=1),
        ico=ico,
        **sections,
    )
    stop = asyncio.Event()
    async with open_services(settings) as services, aiohttp.ClientSession() as session:
        server = settings.server
        base = f"http://127.0.0.1:{server.port}"
        running = asyncio.create_task(Process(services, "all").run(stop))
        try:
            await _until_ready(session, base, running)
            transformer = services.transformer
            store = None
            if transformer is not None and (ico.folder or ico.bucket):
                store = transformer.stores.get(transformer.stores.choose("", ""))
            yield Site(
                services,
                store,  # type: ignore[arg-type]  # tests without a store do not use it
                session,
                base,
                f"http://127.0.0.1:{server.private_port}",
            )
        finally:
            stop.set()
            await running


async def _until_ready(session: aiohttp.ClientSession, base: str, running: Any) -> None:
    async with asyncio.timeout(60 * patience()):
        while True:
            if running.done():
                await running
            try:
                async with session.get(f"{base}/health/ready") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)


def bucket_settings(server: S3Server) -> dict[str, Any]:
    """The settings of /ico for the bucket of the S3 server."""
    access, secret = CREDENTIALS
    return {
        "endpoint": server.endpoint,
        "bucket": BUCKET,
        "access_key": SecretStr(access),
        "secret_key": SecretStr(secret),
    }


def open_bucket(server: S3Server, bucket: str = BUCKET) -> Any:
    """A store in another bucket of the server, to prepare it."""
    return open_s3(server.storage(bucket=bucket, prefix=""))
