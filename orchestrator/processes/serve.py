"""One process of `orchestrator serve`: the public port, or housekeeping with the private port, or
both.

Housekeeping registers the folder, converts what waits, scavenges the caches and drops what changed.
Ready means that the folder's headers are read: from then on any request can be answered.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import uvloop

from orchestrator import metrics
from orchestrator.app import Services, open_services
from orchestrator.cache.hot.tier import HotTier
from orchestrator.catalog.changes import GONE
from orchestrator.catalog.listener import ChangeListener
from orchestrator.errors import StorageUnavailable
from orchestrator.ingest.converter import Converter
from orchestrator.ingest.folder import FolderIngest
from orchestrator.log import set_up_logging
from orchestrator.model import AssetId
from orchestrator.processes.worker import ingest_sweeper_of, sweeper_of, with_room, worker_of
from orchestrator.progress import Told
from orchestrator.routing.caching_rules import CachingRules
from orchestrator.routing.deliver import Deliverer
from orchestrator.routing.delivery_settings import encoder_of, limits_of, thumbnail_rules_of
from orchestrator.routing.describe import InfoDescriber
from orchestrator.routing.image_server import BuiltinImageServer, ImageServer
from orchestrator.routing.memory_sources import MemorySourceCache
from orchestrator.routing.orchestrate import SourceOrchestrator
from orchestrator.routing.remote_image_server import RemoteImageServer
from orchestrator.routing.snapshots import Snapshots
from orchestrator.routing.unorchestrated import UnorchestratedRenderer
from orchestrator.routing.warmer import SourceWarmer
from orchestrator.scavenger.invalidation import Invalidator
from orchestrator.scavenger.scavenger import Pass, Scavenger
from orchestrator.settings import Settings
from orchestrator.web.access_log import open_access_log
from orchestrator.web.api.api_factory import build_api
from orchestrator.web.collection_routes import CollectionRoutes
from orchestrator.web.health_routes import HealthRoutes, MetricsRoute
from orchestrator.web.image_routes import ImageRoutes
from orchestrator.web.landing_page import LandingPage
from orchestrator.web.listen_socket import open_listen_socket
from orchestrator.web.middleware import PortMiddleware
from orchestrator.web.port_runner import PortRunner
from orchestrator.web.port_state import PortLimits, PortState
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import HotEntry
from orchestrator.web.routes import build_private_app, build_public_app

log = logging.getLogger(__name__)
SWEEP_EVERY_S = 3600.0
FILES_GONE_S = 0.8
"""Housekeeping has removed the files of what was cleared by then, or is still at it."""
Role = Literal["serve", "housekeeping", "all"]
Loop = Coroutine[Any, Any, None]


def run_process(settings: Settings, role: Role, index: int) -> None:
    """Be one process of `serve` until SIGTERM or SIGINT; `settings` name a database."""
    set_up_logging(settings.log.level)
    uvloop.run(_run(settings, role, index))


async def _run(settings: Settings, role: Role, index: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    processes = settings.server.workers + (1 if settings.server.workers > 1 else 0)
    roomy = settings if role == "serve" else with_room(settings)
    async with open_services(roomy, share=processes) as services:
        await Process(services, role).run(stop)
    log.info("process ended", extra={"role": role, "index": index})


class Process:
    """Everything one process serves with."""

    def __init__(self, services: Services, role: Role) -> None:
        settings = services.settings
        self._services = services
        self._settings = settings
        self._role = role
        self._hot: HotTier[HotEntry] = HotTier(
            settings.cache.memory, settings.cache.memory_max_entry
        )
        self._snapshots = Snapshots(
            services.catalog, settings.delivery, settings.database.stale_restricted_s
        )
        self._addresses = PublicAddressResolver(
            settings.server.trusted_proxies, settings.server.path_templates
        )
        self._registered = settings.data_dir / "run" / "registered"
        self._caching = CachingRules.of(settings.cache.rules)
        self._invalidator = Invalidator(
            services.disk_caches,
            services.catalog.changes,
            services.catalog.assets,
            pinned_by_rule=self._caching.is_pinned_id,
            seen=settings.data_dir / "run" / "changes-seen",
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain: answers under way are finished."""
        async with AsyncExitStack() as ports, asyncio.TaskGroup() as tasks:
            listening = asyncio.Event()
            listener = ChangeListener(
                self._settings.database,
                on_change=self._changed,
                on_lost=self._notices_lost,
                on_restored=self._notices_restored,
                on_prefix=self._prefix_cleared,
            )
            running = [tasks.create_task(listener.run(listening))]
            await _first(listening.wait(), stop.wait())
            for loop in await self._open(ports):
                running.append(tasks.create_task(loop))
            worker = [] if self._role == "serve" else [worker_of(self._services).run()]
            working = [tasks.create_task(loop) for loop in worker]
            _spare_the_collector()
            await stop.wait()
            for task in working:
                task.cancel()  # drains while the ports do
            await ports.aclose()
            for task in running:
                task.cancel()

    async def _open(self, ports: AsyncExitStack) -> list[Loop]:
        """Open this role's ports; the loops that run beside them."""
        loops: list[Loop] = []
        if self._role != "serve":
            await asyncio.to_thread(self._registered.unlink, missing_ok=True)
            loops += self._housekeeping()
            await self._open_private(ports)
        if self._role != "housekeeping":
            loops += await self._open_public(ports)
        return loops

    # --- housekeeping -----------------------------------------------------------------------

    def _housekeeping(self) -> list[Loop]:
        services = self._services
        scavenger = Scavenger(
            services.disk_caches,
            (services.flights,),
            low_water=self._settings.cache.low_water,
            report=_count_pass,
        )
        return [
            self._take_in(),
            scavenger.run(),
            self._invalidator.run(),
            self._sweep_store(),
            ingest_sweeper_of(services).run(),
            sweeper_of(services).run(),
        ]

    async def _take_in(self) -> None:
        """Register the folder, say that this is done, then convert what waits for as long as we
        run.
        """
        services = self._services
        folder = self._settings.ingest.folder
        if folder:
            ingest = FolderIngest(services.catalog.assets, services.pipeline)
            told = Told(self._settings.data_dir, "reading headers")
            policy = await services.pipeline.policies.folder(1)
            await ingest.register(Path(folder), policy, told)
        await asyncio.to_thread(_touch, self._registered)
        told = Told(self._settings.data_dir, "converting")
        await Converter(
            services.catalog.assets, services.pipeline, self._settings.ingest.workers, told
        ).run()

    async def _sweep_store(self) -> None:
        """Remove what writers that died left in the object store, once an hour."""
        while True:
            try:
                await self._services.store.sweep_temporary()
            except StorageUnavailable as error:
                log.warning("object store not swept", extra={"reason": error.public})
            await asyncio.sleep(SWEEP_EVERY_S)

    async def _open_private(self, ports: AsyncExitStack) -> None:
        server = self._settings.server
        port_state = PortState(addresses=self._addresses, limits=self._limits(), private=True)
        folder = self._settings.data_dir / "metrics" if server.workers > 1 else None
        api = build_api(self._services, self._settings.api, version("orchestrator"))
        # Nothing of the private port is for anybody's cache, errors neither.
        never = self._settings.delivery.cache_secret
        middleware = PortMiddleware(port_state, cache_error=never, cache_secret=never)
        app = build_private_app(middleware, self._health(), MetricsRoute(folder), api)
        runner = PortRunner(app, port_state, keepalive_s=server.keepalive_s, drain_s=server.drain_s)
        await self._listen(ports, runner, server.private_host, server.private_port, shared=False)

    # --- serving ------------------------------------------------------------------------------

    async def _open_public(self, ports: AsyncExitStack) -> list[Loop]:
        settings = self._settings
        access_log = await asyncio.to_thread(open_access_log, settings.log.access)
        if access_log is not None:
            ports.push_async_callback(asyncio.to_thread, access_log.close)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, access_log.reopen)
        port_state = PortState(
            addresses=self._addresses,
            hot=self._hot,
            access_log=access_log,
            limits=self._limits(),
            auth_cookie=settings.auth.cookie,
        )
        services = self._services
        sources = SourceOrchestrator(
            services.store,
            services.sources,
            services.flights,
            settings.delivery,
            rules=self._caching,
            origins=services.origins.origins,
        )
        warmer = SourceWarmer(sources, settings.delivery.warm_queue)
        images = await self._images(ports, sources, warmer)
        self._services.imaging.warm()  # nobody's first picture waits for a worker to start
        page = await asyncio.to_thread(LandingPage.load, version("orchestrator"))
        collection = CollectionRoutes(
            self._services.catalog.assets, page, self._addresses, settings.iiif.default_version
        )
        app = build_public_app(self._middleware(port_state), images, collection, self._health())
        server = settings.server
        runner = PortRunner(app, port_state, keepalive_s=server.keepalive_s, drain_s=server.drain_s)
        shared = self._role == "serve"
        await self._listen(ports, runner, server.host, server.port, shared=shared)
        return [warmer.run()]

    async def _images(
        self, ports: AsyncExitStack, sources: SourceOrchestrator, warmer: SourceWarmer
    ) -> ImageRoutes:
        settings, services = self._settings, self._services
        limits = limits_of(settings)
        capabilities = await services.imaging.capabilities()
        server = self._image_server()
        ports.push_async_callback(server.close)
        unorchestrated = self._unorchestrated(ports)
        deliverer = Deliverer(
            snapshots=self._snapshots,
            store=services.store,
            derivatives=services.derivatives,
            sources=sources,
            unorchestrated=unorchestrated,
            flights=services.flights,
            image_server=server,
            pool=services.imaging,
            refresher=services.pipeline,
            limits=limits,
            rules=thumbnail_rules_of(settings),
            caching=self._caching,
            encoder=encoder_of(settings),
            max_decode_pixels=settings.iiif.max_decode_pixels,
            timeout_s=settings.delivery.request_timeout_s,
        )
        return ImageRoutes(
            deliverer=deliverer,
            describer=InfoDescriber(self._snapshots, limits, settings.iiif, capabilities.outputs),
            snapshots=self._snapshots,
            rights=services.tokens,
            warmer=warmer,
            hot=self._hot,
            addresses=self._addresses,
            settings=settings,
        )

    def _image_server(self) -> ImageServer:
        builtin = BuiltinImageServer(self._services.imaging, encoder_of(self._settings))
        if self._settings.image_server.kind == "builtin":
            return builtin
        return RemoteImageServer(self._settings.image_server, builtin)

    def _unorchestrated(self, ports: AsyncExitStack) -> UnorchestratedRenderer:
        """For sources that are not brought to fast disk."""
        memory = MemorySourceCache(
            self._services.store,
            self._settings.delivery.memory_sources,
            self._services.origins.origins,
        )
        ports.callback(memory.close)
        builtin = BuiltinImageServer(self._services.imaging, encoder_of(self._settings))
        settings = self._settings.image_server
        special = None
        if settings.special_addresses:
            changes = {
                "kind": "cantaloupe",
                "addresses": settings.special_addresses,
                "path_template": settings.special_path_template,
                "sources_root": "",
            }
            special = RemoteImageServer(settings.model_copy(update=changes), builtin)
            ports.push_async_callback(special.close)
        return UnorchestratedRenderer(memory, builtin, special)

    # --- both ---------------------------------------------------------------------------------

    def _changed(self, asset_id: AssetId, version: int) -> None:
        self._snapshots.drop(asset_id)
        self._hot.drop_asset(str(asset_id))
        if version == GONE:
            self._drop_again(partial(self._hot.drop_asset, str(asset_id)))
        if self._role != "serve":
            self._invalidator.heard(asset_id, version)

    def _prefix_cleared(self, prefix: str) -> None:
        self._hot.drop_prefix(prefix)
        self._drop_again(partial(self._hot.drop_prefix, prefix))
        if self._role != "serve":
            self._invalidator.heard_prefix(prefix)

    def _drop_again(self, drop: Callable[[], object]) -> None:
        """Once the files are gone as well: one may have been read again in the meantime."""
        asyncio.get_running_loop().call_later(FILES_GONE_S, drop)

    def _notices_restored(self) -> None:
        self._snapshots.notices_restored()
        self._invalidator.restored()

    def _notices_lost(self) -> None:
        self._snapshots.notices_lost()
        self._hot.clear()

    def _limits(self) -> PortLimits:
        server = self._settings.server
        return PortLimits(server.header_timeout_s, server.max_connections, server.max_requests)

    def _middleware(self, port_state: PortState) -> PortMiddleware:
        delivery = self._settings.delivery
        return PortMiddleware(
            port_state, cache_error=delivery.cache_error, cache_secret=delivery.cache_secret
        )

    def _health(self) -> HealthRoutes:
        return HealthRoutes(
            {"folder": self._folder_check, "catalogue": self._services.catalog.check}
        )

    async def _folder_check(self) -> str:
        is_done = await asyncio.to_thread(self._registered.exists)
        return "" if is_done else "the pictures' headers are still being read"

    async def _listen(
        self, ports: AsyncExitStack, runner: PortRunner, host: str, port: int, *, shared: bool
    ) -> None:
        await runner.setup()
        ports.push_async_callback(runner.cleanup)
        bound = await runner.listen(open_listen_socket(host, port, shared=shared))
        log.info("listening", extra={"host": host, "port": bound, "role": self._role})


def _spare_the_collector() -> None:
    """What is built by now lives as long as the process: the garbage collector need not walk it
    again and again, which hot answers would wait for (P1, p99).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait for whichever comes first."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _count_pass(seen: Pass) -> None:
    metrics.CACHE_BYTES.labels(cache=seen.cache).set(seen.used + seen.reserved)
    metrics.CACHE_FILES.labels(cache=seen.cache).set(seen.kept - seen.files)


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
