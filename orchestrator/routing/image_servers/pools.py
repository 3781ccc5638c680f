"""The pools of an installation, and which of them answers a request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from orchestrator.iiif.geometry import ResolvedImage
from orchestrator.model import STORE, Asset, AssetId
from orchestrator.routing.image_servers.builtin import BuiltinImageServer
from orchestrator.routing.image_servers.protocol import ImageServer
from orchestrator.routing.image_servers.remote_pool import RemotePool
from orchestrator.routing.image_servers.selection import PoolRules, class_of
from orchestrator.settings import ImageServer as ImageServerSettings
from orchestrator.settings.image_server_section import DEFAULT


class ImageServerPools:
    """Every pool by its name; `default` is one of them."""

    def __init__(self, pools: Mapping[str, ImageServer], rules: PoolRules | None = None) -> None:
        self._pools = pools
        self._rules = rules or PoolRules()

    @property
    def remote(self) -> Mapping[str, RemotePool]:
        """The pools that are reached over HTTP, by their names."""
        return {name: pool for name, pool in self._pools.items() if isinstance(pool, RemotePool)}

    async def render(self, asset: Asset, path: Path, image: ResolvedImage) -> bytes:
        """The image, cut from the source file by the pool that the rules name, or by the default
        one if that pool reads objects. See ImageServer.render.
        """
        return await self._file_reader_of(asset, image).render(asset, path, image)

    def ready_tile(self, asset: Asset, path: Path, image: ResolvedImage) -> bytes | None:
        """See ImageServer.ready_tile; None if a pool makes the image from the object."""
        if self.reader_of(asset, image) is not None:
            return None
        return self._file_reader_of(asset, image).ready_tile(asset, path, image)

    def is_cheap(self, asset: Asset, image: ResolvedImage) -> bool:
        """See ImageServer.is_cheap; False if a pool makes the image from the object."""
        if self.reader_of(asset, image) is not None:
            return False
        return self._file_reader_of(asset, image).is_cheap(asset, image)

    def reader_of(self, asset: Asset, image: ResolvedImage) -> tuple[RemotePool, str] | None:
        """The pool that the rules name, and the key of the source's object, if the pool makes the
        image from the object itself, so that nothing is copied for it. None for other pools.
        """
        pool = self._pools[self._rules.pool_for(class_of(image), asset)]
        source = asset.source
        if not isinstance(pool, RemotePool) or not pool.reads_objects or source is None:
            return None
        if not source.location.startswith(STORE) or not pool.can_make(asset, image):
            return None
        return pool, source.location.removeprefix(STORE)

    def builtin_for(self, asset: Asset, image: ResolvedImage) -> BuiltinImageServer | None:
        """The built-in image server if the rules have it make the image, else None."""
        pool = self._pools[self._rules.pool_for(class_of(image), asset)]
        return pool if isinstance(pool, BuiltinImageServer) else None

    def describer_of(self, asset: Asset) -> RemotePool | None:
        """The pool whose info document states the tiles of this asset; None if our record does."""
        pool = self._pools[self._rules.pool_for("info", asset)]
        if not isinstance(pool, RemotePool) or not pool.describes or asset.source is None:
            return None
        is_object = asset.source.location.startswith(STORE)
        return None if pool.reads_objects and not is_object else pool

    def on_change(self, asset_id: AssetId) -> None:
        """Purge what the nodes of all pools have in their caches about an asset."""
        for pool in self.remote.values():
            pool.on_change(lambda each: each == asset_id)

    def on_prefix(self, prefix: str) -> None:
        """Purge what they have about all assets whose id begins with `prefix`."""
        for pool in self.remote.values():
            pool.on_change(lambda each: str(each).startswith(prefix))

    async def run(self) -> None:
        """Watch the nodes of all pools."""
        async with asyncio.TaskGroup() as group:
            for pool in self.remote.values():
                if pool.is_watched:
                    group.create_task(pool.run())
            await asyncio.Event().wait()

    async def close(self) -> None:
        """Close the connections of all pools."""
        for pool in self._pools.values():
            await pool.close()

    def _file_reader_of(self, asset: Asset, image: ResolvedImage) -> ImageServer:
        pool = self._pools[self._rules.pool_for(class_of(image), asset)]
        reads_objects = isinstance(pool, RemotePool) and pool.reads_objects
        return self._pools[DEFAULT] if reads_objects else pool


def build_pools(settings: ImageServerSettings, builtin: BuiltinImageServer) -> ImageServerPools:
    """The pools of these settings. `builtin` makes what the others cannot. Raises re.error for an
    invalid pattern.
    """
    pools: dict[str, ImageServer] = {}
    for name, pool in settings.all_pools().items():
        pools[name] = builtin if pool.kind == "builtin" else RemotePool(pool, builtin, name)
    return ImageServerPools(pools, PoolRules.of(settings.rules))
