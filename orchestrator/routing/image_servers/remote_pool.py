"""A pool of image servers reached over HTTP: Cantaloupe or IIPImage.

The URLs requested from them are built from our own records, never from the client's path. Every
response is verified before it is used. Requests that such a server cannot answer (a format, an
enlargement) go to the built-in renderer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

from orchestrator.errors import NoRoom
from orchestrator.iiif.geometry import ResolvedImage
from orchestrator.model import Asset, AssetId
from orchestrator.routing.image_servers.abilities import ABILITIES, can_make
from orchestrator.routing.image_servers.admission import Admission
from orchestrator.routing.image_servers.answer_check import document_problem_of, problem_of
from orchestrator.routing.image_servers.image_target import (
    document_target,
    image_target,
    name_on_nodes,
    template_of,
)
from orchestrator.routing.image_servers.pool_client import PoolClient, PoolRequest
from orchestrator.routing.image_servers.protocol import ImageServer
from orchestrator.settings import ImageServerPool


class RemotePool:
    """The nodes of one pool, as one of our processes uses them."""

    def __init__(
        self, settings: ImageServerPool, fallback: ImageServer, name: str = "default"
    ) -> None:
        self._abilities = ABILITIES["iipimage" if settings.kind == "iipimage" else "cantaloupe"]
        self._settings = settings
        self._fallback = fallback
        self._client = PoolClient(name, settings)
        nodes = len(settings.addresses)
        self._admission = Admission(
            name,
            at_once=max(1, settings.connections * nodes // 2),
            memory=settings.decode_memory * nodes,
            queue=settings.queue,
            timeout_s=settings.queue_timeout_s,
        )

    @property
    def is_watched(self) -> bool:
        """True if `run` has work: canaries or purges."""
        return self._client.is_watching

    @property
    def describes(self) -> bool:
        """True if the tiles of info documents are those of the nodes."""
        return self._settings.info == "pool"

    @property
    def document_form(self) -> str:
        """Differs for pools whose info documents differ."""
        return f"{self._settings.kind} {template_of(self._settings)}"

    @property
    def reads_objects(self) -> bool:
        """True if the nodes read the object store themselves."""
        return self._settings.reads == "objects"

    def can_make(self, asset: Asset, image: ResolvedImage) -> bool:
        """True if the nodes can make this image."""
        return can_make(self._abilities, asset, image)

    async def render(self, asset: Asset, path: Path, image: ResolvedImage) -> bytes:
        """See ImageServer.render."""
        if not self.can_make(asset, image):
            return await self._fallback.render(asset, path, image)
        if not await asyncio.to_thread(path.is_file):
            raise FileNotFoundError(path)
        return await self._request(asset, name_on_nodes(self._settings, str(path)), image)

    def ready_tile(self, asset: Asset, path: Path, image: ResolvedImage) -> bytes | None:
        """See ImageServer.ready_tile."""
        if can_make(self._abilities, asset, image):
            return None
        return self._fallback.ready_tile(asset, path, image)

    def is_cheap(self, asset: Asset, image: ResolvedImage) -> bool:
        """See ImageServer.is_cheap. False for what a server makes: its cost is not known here."""
        return not can_make(self._abilities, asset, image) and self._fallback.is_cheap(asset, image)

    async def render_object(self, asset: Asset, key: str, image: ResolvedImage) -> bytes:
        """The encoded image, cut by a node from the object under `key` in the object store.

        Raises NoRoom for an image that these servers cannot make, TooLarge, Overloaded,
        ImageServerUnavailable.
        """
        if not self.can_make(asset, image):
            raise NoRoom("The image servers cannot make this image.")
        return await self._request(asset, key, image)

    async def describe(self, asset: Asset, source: Path | str) -> bytes:
        """The info document of a node about a source file, or about the object under a key.

        Raises Overloaded, ImageServerUnavailable.
        """
        name = source
        if isinstance(source, Path):
            name = name_on_nodes(self._settings, str(source))
        target = document_target(self._settings, str(name))
        judge = partial(document_problem_of, dimensions=asset.dimensions)
        return await self._client.fetch(PoolRequest(asset, str(name), target, judge))

    def on_change(self, is_changed: Callable[[AssetId], bool]) -> None:
        """Purge what the nodes have in their caches about the assets that have changed."""
        self._client.on_change(is_changed)

    async def check(self) -> str:
        """See ImageServer.check."""
        return await self._client.check()

    async def run(self) -> None:
        """Watch the nodes, without end."""
        await self._client.watch()

    async def close(self) -> None:
        """See ImageServer.close."""
        await self._client.close()

    async def _request(self, asset: Asset, name: str, image: ResolvedImage) -> bytes:
        target = image_target(self._settings, name, image)
        judge = partial(problem_of, image=image)
        # The permit of a whole image first: such requests must not wait for nodes before tiles do.
        async with self._admission.admit(asset, image):
            return await self._client.fetch(PoolRequest(asset, name, target, judge))
