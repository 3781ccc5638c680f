"""The housekeeping role: the private port, registration of the folder, the scavenger, the sweepers
and the embedded ingest worker.

An installation has one housekeeping process. Its restart disturbs no serve process.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from importlib.metadata import version

from orchestrator import metrics
from orchestrator.app import Services
from orchestrator.ingest.conversion_progress import ConversionProgress
from orchestrator.model import AssetId
from orchestrator.processes.background import Loop
from orchestrator.processes.ports import Address, open_port, private_port
from orchestrator.processes.served_folder import ServedFolder
from orchestrator.processes.worker import sweeper_loops
from orchestrator.progress import CONVERTING, ProgressFile
from orchestrator.routing.caching_rules import CachingRules
from orchestrator.scavenger.invalidation import Invalidator
from orchestrator.scavenger.scavenger import Pass, Scavenger
from orchestrator.web.api.api_factory import build_api
from orchestrator.web.health_routes import HealthRoutes, MetricsRoute
from orchestrator.web.routes import build_private_app

SWEEP_EVERY_S = 3600.0


class Housekeeping:
    """The tasks that one process of an installation does for all of them."""

    def __init__(self, services: Services) -> None:
        settings = services.settings
        self._services = services
        self._settings = settings
        self._folder = ServedFolder(services)
        self._conversions = ConversionProgress(
            services.catalog.assets, ProgressFile(settings.data_dir, CONVERTING)
        )
        self._invalidator = Invalidator(
            services.disk_caches,
            services.catalog.changes,
            services.catalog.assets,
            pinned_by_rule=CachingRules.of(settings.cache.rules).is_pinned_id,
            seen=settings.data_dir / "run" / "changes-seen",
        )

    async def open(self, stack: AsyncExitStack) -> list[Loop]:
        """Open the private port; closing `stack` drains it. Returns the loops to run beside it."""
        for cache in self._services.disk_caches:
            metrics.CACHE_QUOTA.labels(cache.name).set(cache.options.quota)
        await self._open_port(stack)
        return self._loops()

    def on_converted(self) -> None:
        """Count a conversion that ended, for the progress that the command shows."""
        self._conversions.add()

    def on_change(self, asset_id: AssetId, version: int) -> None:
        """Remove the cached files of an asset; `version` is its new version, or GONE."""
        self._invalidator.on_change(asset_id, version)

    def on_prefix(self, prefix: str) -> None:
        """Remove the cached files of all assets whose id begins with `prefix`."""
        self._invalidator.on_prefix(prefix)

    def on_alias(self, alias: str) -> None:
        """Do nothing: the files of both assets stay valid."""

    def on_purged(self, original: str) -> None:
        """Remove the cached results of an original of /ico or an upload; `original` is its id in
        caches.
        """
        self._invalidator.on_purged(original)

    def on_lost(self) -> None:
        """Do nothing: missed changes are read from the database in `on_restored`."""

    def on_restored(self) -> None:
        """Read the changes that were committed while the listener was not connected."""
        self._invalidator.on_restored()

    async def _open_port(self, stack: AsyncExitStack) -> None:
        server = self._settings.server
        port = private_port(self._settings, self._services.tracing)
        api = build_api(self._services, self._settings, version("orchestrator"))
        health = HealthRoutes(
            {"catalogue": self._services.catalog.check}, states={"folder": self._folder.state}
        )
        app = build_private_app(port.middleware, health, MetricsRoute(), api)
        address = Address(server.private_host, server.private_port)
        await open_port(stack, port, app, address, role="housekeeping")

    def _loops(self) -> list[Loop]:
        services = self._services
        scavenger = Scavenger(
            services.disk_caches,
            (services.flights,),
            low_water=self._settings.cache.low_water,
            report=_record_pass,
        )
        return [
            Loop("folder", self._folder.run),
            Loop("conversions", self._conversions.run),
            Loop("scavenger", scavenger.run),
            Loop("invalidation", self._invalidator.run),
            Loop("store_sweep", self._sweep_store),
            *sweeper_loops(services),
            *([Loop("upload_sweep", services.uploads.sweeper.run)] if services.uploads else []),
        ]

    async def _sweep_store(self) -> None:
        """Once an hour, remove the temporary objects of processes that died. Raises
        StorageUnavailable.
        """
        while True:
            await self._services.store.sweep_temporary()
            await asyncio.sleep(SWEEP_EVERY_S)


def _record_pass(done: Pass) -> None:
    metrics.CACHE_BYTES.labels(cache=done.cache).set(done.used + done.reserved)
    metrics.CACHE_FILES.labels(cache=done.cache).set(done.kept - done.files)
