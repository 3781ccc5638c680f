"""The tiles that image servers state in their info documents, for pools with `info = "pool"`.

A document is requested once for each version of an asset, for all processes of the host, and kept
in the derivative cache. Only the size of its tiles is used; everything else in our documents is
computed from our own record. A document about a picture of another size is not used.
"""

from __future__ import annotations

import logging

import orjson

from orchestrator.cache.disk.cache import DiskCache, Product
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.errors import OrchestratorError
from orchestrator.model import STORE, Asset, Dimensions
from orchestrator.routing.image_servers.answer_check import tile_of_document
from orchestrator.routing.image_servers.pools import ImageServerPools
from orchestrator.routing.image_servers.remote_pool import RemotePool
from orchestrator.routing.orchestrate import NotOrchestrated, SourceOrchestrator, source_of

log = logging.getLogger(__name__)


class PoolDocuments:
    """What the pools of an installation say about the tiles of assets."""

    def __init__(
        self,
        pools: ImageServerPools,
        sources: SourceOrchestrator,
        cache: DiskCache,
        flights: SingleFlight,
    ) -> None:
        self._pools = pools
        self._sources = sources
        self._cache = cache
        self._flights = flights

    async def tile_of(self, asset: Asset) -> Dimensions | None:
        """The size of the tiles in pixels; None if our own record is to be used: the pool has no
        say, or does not answer.
        """
        pool = self._pools.describer_of(asset)
        if pool is None or not asset.servable:
            return None
        product = Product(str(asset.id), asset.version, f"info {pool.document_form}", "json")

        async def publish(body: bytes) -> None:
            await self._cache.put(product, body)

        try:
            body = await self._flights.run(
                f"{product.name} {product.asset} {product.version}",
                lambda: self._request(pool, asset),
                find=lambda: self._cache.get(product),
                publish=publish,
            )
        except (OrchestratorError, NotOrchestrated, FileNotFoundError) as error:
            log.info(
                "info document not used",
                extra={"asset": str(asset.id), "reason": type(error).__name__},
            )
            return None
        return tile_of_document(orjson.loads(body))

    async def _request(self, pool: RemotePool, asset: Asset) -> bytes:
        if pool.reads_objects:
            return await pool.describe(asset, source_of(asset).location.removeprefix(STORE))
        async with self._sources.lease(asset) as path:
            return await pool.describe(asset, path)
