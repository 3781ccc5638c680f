"""The whole product in one process with uploads, in folders or in buckets of a real S3 server, on a
real socket. Two sites serve all tests.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from PIL import Image
from pydantic import SecretStr

from orchestrator.catalog.uploads import Upload
from orchestrator.settings import Ico, Uploads
from orchestrator.uploads.uploads_factory import UploadServices
from tests.integration.ico.conftest import Reply, Site, open_site
from tests.support.patience import patience
from tests.support.server_fixtures import S3Server, new_database
from tests.support.weed import BUCKET, CREDENTIALS, PUBLIC_BUCKET

SECRET, OTHER_SECRET = "a-secret-for-publishing", "the-secret-before"


@dataclass
class UploadSite:
    """A running installation with uploads. `temp` is its work folder."""

    site: Site
    temp: Path
    endpoint: str = ""
    """Of the S3 server; "" for a site with folders."""

    @property
    def services(self) -> UploadServices:
        services = self.site.services.uploads
        assert services is not None
        return services

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Reply:
        return await self.site.ask(path, method, **headers)

    async def ask_for_memory(self, path: str, **headers: str) -> Reply:
        return await self.site.ask_for_memory(path, **headers)

    async def post(self, path: str, headers: dict[str, str] | None = None, **body: Any) -> Reply:
        """POST with one of aiohttp's ways to give a body: data, json."""
        url = f"{self.site.base}/{path}"
        async with self.site.session.post(url, headers=headers, **body) as response:
            fields = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, fields, await response.read())

    async def upload(self, body: bytes, name: str = "picture.jpg") -> Reply:
        form = aiohttp.FormData()
        form.add_field(
            "file", io.BytesIO(body), filename=name, content_type="application/octet-stream"
        )
        return await self.post("upload", data=form)

    async def uploaded(self, body: bytes, name: str = "picture.jpg") -> str:
        """Upload a picture; its file name."""
        reply = await self.upload(body, name)
        assert reply.status == 200, reply.body
        return str(json.loads(reply.body)["filename"])

    async def change(self, action: str, **fields: Any) -> Reply:
        """A form with the secret."""
        return await self.post(action, data={"secret": SECRET, **fields})

    async def published(self, body: bytes, **fields: Any) -> str:
        """Upload and publish a picture; its file name."""
        name = await self.uploaded(body)
        reply = await self.change("publish", filename=name, **fields)
        assert reply.status == 200, reply.body
        return name

    async def sizes(self, filename: str) -> list[tuple[int, int]]:
        """The sizes of the versions of a published picture."""
        return [(await self.version(filename, name)).size for name in ("BI", "MI", "SI")]

    async def version(self, filename: str, name: str) -> Reply:
        base, _, extension = filename.rpartition(".")
        reply = await self.ask(f"/active/{base}{name}.{extension.replace('svg', 'jpg')}")
        assert reply.status == 200, reply.body
        return reply

    async def keys(self, stage: str, filename: str = "") -> list[str]:
        """The keys in a store that belong to a picture."""
        store = getattr(self.services.stores, stage)
        return sorted([info.key async for info in store.list(filename.partition(".")[0])])

    async def row(self, filename: str) -> Upload | None:
        return await self.site.services.catalog.uploads.get(filename.partition(".")[0])

    def leftovers(self) -> list[str]:
        """The files in the work folder, without those of partial uploads."""
        return [
            str(path)
            for path in self.temp.rglob("*")
            if path.is_file() and path.suffix != ".lock" and "partial-uploads" not in path.parts
        ]


async def until(condition: Callable[[], Any], within_s: float = 60) -> Any:
    """Wait until the condition, which may be awaitable, gives something true; what it gives."""
    async with asyncio.timeout(within_s * patience()):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


def jpeg(width: int = 426, height: int = 592, mode: str = "RGB", **options: Any) -> bytes:
    """A JPEG whose colour changes from the left to the right and from the top to the bottom."""
    gradient = Image.merge(
        "RGB",
        (
            Image.linear_gradient("L").rotate(90).resize((width, height)),
            Image.linear_gradient("L").resize((width, height)),
            Image.new("L", (width, height), 90),
        ),
    )
    buffer = io.BytesIO()
    gradient.convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@asynccontextmanager
async def open_uploads(
    dsn: str, folder: Path, server: S3Server | None = None, **settings: Any
) -> AsyncIterator[UploadSite]:
    """The product with uploads in folders, or in the buckets of `server`."""
    temp = folder / "temp"
    values: dict[str, Any] = {
        "secrets": [SecretStr(SECRET), SecretStr(OTHER_SECRET)],
        "temp_folder": str(temp),
        "backend": "local",
        "incoming_folder": str(folder / "incoming"),
        "active_folder": str(folder / "active"),
    }
    if server is not None:
        access, secret = CREDENTIALS
        values["backend"] = "s3"
        for stage, bucket in (("incoming", BUCKET), ("active", PUBLIC_BUCKET)):
            values |= {
                f"{stage}_bucket": bucket,
                f"{stage}_endpoint": server.endpoint,
                f"{stage}_access_key": SecretStr(access),
                f"{stage}_secret_key": SecretStr(secret),
            }
    uploads = Uploads(**(values | settings))
    for name in ("incoming", "active"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    async with open_site(dsn, folder / "data", Ico(), uploads=uploads) as site:
        yield UploadSite(site, temp, server.endpoint if server else "")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def folder_site(
    postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[UploadSite]:
    dsn = await new_database(postgres)
    async with open_uploads(dsn, tmp_path_factory.mktemp("uploads")) as opened:
        yield opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bucket_site(
    postgres: str, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[UploadSite]:
    dsn = await new_database(postgres)
    async with open_uploads(dsn, tmp_path_factory.mktemp("uploads"), s3_server) as opened:
        yield opened


@pytest.fixture(params=["local", "s3"])
def site(request: pytest.FixtureRequest) -> UploadSite:
    """Each of them. Parameters of a session fixture would start both again for every file."""
    found: UploadSite = request.getfixturevalue(
        "bucket_site" if request.param == "s3" else "folder_site"
    )
    return found
