"""Image servers reached over HTTP: Cantaloupe and IIPImage, which read the folder of the source
cache.

The URLs requested from them are built from our own records, never from the client's path. Sizes are
rewritten to the form that they answer fast: Cantaloupe takes 12 to 17 s for a size written `w,h`
and 0.1 s for the same size written `w,` (docs/adr/0006-image-server-seam.md). Every response is
verified before it is used. Requests that such a server cannot answer (a format, an enlargement) go
to the built-in renderer.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import aiohttp
from yarl import URL

from orchestrator import metrics
from orchestrator.errors import ImageServerUnavailable, NoRoom, Overloaded
from orchestrator.iiif.geometry import ResolvedImage
from orchestrator.model import Asset
from orchestrator.routing.image_servers.abilities import ABILITIES, can_make
from orchestrator.routing.image_servers.answer_check import problem_of
from orchestrator.routing.image_servers.protocol import ImageServer
from orchestrator.routing.image_servers.request_form import request_path
from orchestrator.settings import ImageServer as ImageServerSettings

log = logging.getLogger(__name__)
MAX_BYTES = 512 * 1024**2
_TEMPLATES = {
    "cantaloupe": "/iiif/3/{path}/{image}",
    "iipimage": "/fcgi-bin/iipsrv.fcgi?IIIF={path}/{image}",
}


class RemotePool:
    """A pool of image servers of one kind. All requests for one asset go to the same server, so
    that its caches stay warm.
    """

    def __init__(self, settings: ImageServerSettings, fallback: ImageServer) -> None:
        self._kind: Literal["cantaloupe", "iipimage"] = (
            "iipimage" if settings.kind == "iipimage" else "cantaloupe"
        )
        self._abilities = ABILITIES[self._kind]
        self._settings = settings
        self._fallback = fallback
        self._template = settings.path_template or _TEMPLATES[self._kind]
        self._connections = asyncio.Semaphore(settings.connections * len(settings.addresses))
        self._waiting = 0
        self._session: aiohttp.ClientSession | None = None

    async def render(self, asset: Asset, path: Path, image: ResolvedImage) -> bytes:
        """See ImageServer.render."""
        if not can_make(self._abilities, asset, image):
            return await self._fallback.render(asset, path, image)
        if not await asyncio.to_thread(path.is_file):
            raise FileNotFoundError(path)
        name = str(path)
        if self._settings.sources_root:
            name = name.removeprefix(self._settings.sources_root).lstrip("/")
        return await self._request(asset, name, image)

    async def render_object(self, asset: Asset, key: str, image: ResolvedImage) -> bytes:
        """The encoded image, cut by the server from the object under `key` in the object store.

        Raises NoRoom for an image that these servers cannot make, Overloaded,
        ImageServerUnavailable.
        """
        if not can_make(self._abilities, asset, image):
            raise NoRoom("The special pool cannot make this image.")
        return await self._request(asset, key, image)

    async def _request(self, asset: Asset, name: str, image: ResolvedImage) -> bytes:
        if self._waiting >= self._settings.queue:
            raise Overloaded("The image servers are busy. Try again shortly.", 2)
        self._waiting += 1
        try:
            async with self._connections:
                return await self._fetch(asset, name, image)
        finally:
            self._waiting -= 1

    async def check(self) -> str:
        """A description of the first address that does not answer; '' if all answer."""
        for address in self._settings.addresses:
            try:
                async with self._client().get(URL(address)) as answer:
                    await answer.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                return f"{address} does not answer ({type(error).__name__})"
        return ""

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            settings = self._settings
            self._session = aiohttp.ClientSession(
                # Cantaloupe closes idle connections after 30 s; we must close ours earlier.
                connector=aiohttp.TCPConnector(
                    limit_per_host=settings.connections, keepalive_timeout=15
                ),
                timeout=aiohttp.ClientTimeout(
                    total=settings.total_timeout_s,
                    sock_connect=settings.connect_timeout_s,
                    sock_read=settings.first_byte_timeout_s,
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _url(self, asset: Asset, name: str, image: ResolvedImage) -> URL:
        addresses = self._settings.addresses
        server = int.from_bytes(
            hashlib.blake2b(str(asset.id).encode(), digest_size=4).digest()
        ) % len(addresses)
        encoded = quote(name, safe="/" if self._kind == "iipimage" else "")
        target = self._template.format(path=encoded, image=request_path(image))
        return URL(addresses[server].rstrip("/") + target, encoded=True)

    async def _fetch(self, asset: Asset, name: str, image: ResolvedImage) -> bytes:
        url = self._url(asset, name, image)
        try:
            async with self._client().get(url, allow_redirects=False) as answer:
                body = await _read_bounded(answer)
                problem = problem_of(answer, body, image)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ImageServerUnavailable("The image server does not answer.") from error
        if problem:
            metrics.UPSTREAM_REFUSED.labels(reason=problem).inc()
            log.warning(
                "image server response rejected", extra={"asset": str(asset.id), "reason": problem}
            )
            raise ImageServerUnavailable(
                "The image server sent an invalid response for this image."
            )
        return body


async def _read_bounded(answer: aiohttp.ClientResponse) -> bytes:
    chunks, total = [], 0
    async for chunk in answer.content.iter_chunked(256 * 1024):
        chunks.append(chunk)
        total += len(chunk)
        if total > MAX_BYTES:
            raise ImageServerUnavailable("The image server sent more than the size limit.")
    return b"".join(chunks)
