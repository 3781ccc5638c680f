"""The serve role: the public port, and the services that answer its requests.

When the listener reports a change of an asset, this process drops the snapshot and the responses of
the asset from its memory.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version

from orchestrator.app import Services
from orchestrator.cache.hot.tier import HeadsOf, HotTier, free_in_parts
from orchestrator.catalog.asset_transaction import GONE
from orchestrator.imaging import vips
from orchestrator.model import AssetId
from orchestrator.processes.background import Loop
from orchestrator.processes.document_routes import build_document_routes
from orchestrator.processes.picture_routes import (
    build_ico_routes,
    build_pages,
    build_sign_in_routes,
    build_upload_extras,
    build_upload_routes,
)
from orchestrator.processes.ports import Address, open_port, public_port
from orchestrator.progress import registered_marker
from orchestrator.routing.asset_identifiers import AssetIdentifiers
from orchestrator.routing.caching_rules import CachingRules
from orchestrator.routing.current_assets import CurrentAssets
from orchestrator.routing.deliver import Deliverer
from orchestrator.routing.delivery_settings import encoder_of, limits_of, thumbnail_rules_of
from orchestrator.routing.derivative_maker import DerivativeMaker
from orchestrator.routing.describe import InfoDescriber
from orchestrator.routing.image_servers.admission import Admission
from orchestrator.routing.image_servers.builtin import BuiltinImageServer
from orchestrator.routing.image_servers.pool_documents import PoolDocuments
from orchestrator.routing.image_servers.pools import ImageServerPools, build_pools
from orchestrator.routing.image_servers.remote_pool import RemotePool
from orchestrator.routing.memory_sources import MemorySourceCache
from orchestrator.routing.orchestrate import SourceOrchestrator
from orchestrator.routing.promotion.promoted_sources import PromotedSources
from orchestrator.routing.promotion.promoter import Promoter
from orchestrator.routing.promotion.tile_demand import TileDemand
from orchestrator.routing.snapshots import Snapshots
from orchestrator.routing.unorchestrated import UnorchestratedRenderer
from orchestrator.routing.warmer import SourceWarmer
from orchestrator.settings import Settings
from orchestrator.settings.image_server_section import SPECIAL
from orchestrator.web.access_log import AccessLog, open_access_log
from orchestrator.web.direct_answers import DirectAnswers
from orchestrator.web.health_routes import HealthRoutes
from orchestrator.web.hot_entries import HotEntry, shorten_to_head
from orchestrator.web.image_routes import ImageRoutes
from orchestrator.web.page_templates import Pages
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.routes import build_public_app

FILES_REMOVED_S = 0.8
"""Seconds within which housekeeping usually has removed the files of a cleared asset."""


class PublicServer:
    """Answers the requests of clients on the public port."""

    def __init__(self, services: Services, *, shared: bool) -> None:
        """`shared`: other processes serve the same port."""
        settings = services.settings
        self._services = services
        self._settings = settings
        self._shared = shared
        self._hot: HotTier[HotEntry] = HotTier(
            settings.cache.memory,
            settings.cache.memory_max_entry,
            heads=HeadsOf(settings.cache.memory_heads, shorten_to_head(settings.cache.inline_read)),
        )
        self._snapshots = Snapshots(
            services.catalog, settings.delivery, settings.database.stale_restricted_s
        )
        self._assets = CurrentAssets(self._snapshots, services.pipeline.reingester)
        self._identifiers = AssetIdentifiers(self._snapshots.names, settings.iiif.default_space)
        self._caching = CachingRules.of(settings.cache.rules)
        self._builtin, self._pools = _build_image_servers(services)
        self._sources = SourceOrchestrator(
            services.store,
            services.sources,
            services.flights,
            settings.delivery,
            rules=self._caching,
            origins=services.origins.optimised,
        )
        self._promoted, self.promoter = _build_promotion(services, self._sources, self._caching)

    async def open(self, stack: AsyncExitStack) -> list[Loop]:
        """Open the public port; closing `stack` drains it. Returns the loops to run beside it."""
        settings, services = self._settings, self._services
        access_log = await _open_access_log(settings, stack)
        port = public_port(settings, self._hot, access_log, services.tracing)
        self.warmer = warmer = SourceWarmer(self._sources, settings.delivery.warm_queue)
        addresses = port.state.addresses
        images = await self._build_image_routes(stack, warmer, addresses)
        # The first request does not wait for a worker to start.
        services.imaging.start_tile_workers()
        pages = await asyncio.to_thread(Pages.load, version("orchestrator"))
        ico = build_ico_routes(services, self._assets, self._sources, self._hot, addresses)
        uploads = build_upload_routes(services, self._hot, addresses)
        app = build_public_app(
            port.middleware,
            images,
            self._build_health(),
            ico=ico,
            uploads=uploads,
            more=[
                *build_pages(services, pages, addresses, self._assets, self._identifiers),
                *build_upload_extras(services, addresses, pages),
                *build_document_routes(
                    services,
                    identifiers=self._identifiers,
                    snapshots=self._snapshots,
                    assets=self._assets,
                    hot=self._hot,
                    addresses=addresses,
                ),
                *build_sign_in_routes(services, self._assets, addresses, pages),
            ],
        )
        direct = DirectAnswers(images.at_once, self._hot, services.derivatives.bodies)
        port.state.answer_directly(direct.find)
        address = Address(settings.server.host, settings.server.port, self._shared)
        await open_port(stack, port, app, address, role="serve")
        return [
            Loop("warm_up", warmer.run),
            Loop("promotion", self.promoter.run),
            Loop("image_servers", self._pools.run),
        ]

    def on_change(self, asset_id: AssetId, version: int) -> None:
        """Drop the snapshot and responses of an asset; `version` is its new version, or GONE."""
        self._snapshots.drop(asset_id)
        self._hot.drop_asset(str(asset_id))
        self._pools.on_change(asset_id)
        self.promoter.on_change(asset_id)
        if version == GONE:
            self._drop_later(partial(self._hot.drop_asset, str(asset_id)))

    def on_prefix(self, prefix: str) -> None:
        """Drop the responses of all assets whose id begins with `prefix`."""
        self._hot.drop_prefix(prefix)
        self._pools.on_prefix(prefix)
        self._drop_later(partial(self._hot.drop_prefix, prefix))

    def on_alias(self, alias: str) -> None:
        """Drop the responses of the asset that this name stood for without the alias."""
        self._hot.drop_asset(f"{self._settings.iiif.default_space}/{alias}")

    def on_purged(self, original: str) -> None:
        """Drop the responses about an original of /ico or an upload; `original` is its id in
        caches.
        """
        self._hot.drop_asset(original)
        if self._services.transformer is not None:
            self._services.transformer.expire(original)
        self._drop_later(partial(self._hot.drop_asset, original))

    def on_lost(self) -> None:
        """Drop all responses: until `on_restored`, changes of assets are not reported."""
        self._snapshots.on_notices_lost()
        free_in_parts(self._hot.clear())

    def on_restored(self) -> None:
        """Cache snapshots again: changes of assets are reported from now on."""
        self._snapshots.on_notices_restored()

    def _build_health(self) -> HealthRoutes:
        """The readiness of this process, whatever other processes do: it can answer requests.

        Without the database it is ready if it knows assets, which it serves from memory. The folder
        counts only until this run of the installation has read its headers.
        """
        services, marker = self._services, registered_marker(self._settings.data_dir)

        async def check_folder() -> str:
            is_registered = await asyncio.to_thread(marker.exists)
            return "" if is_registered else "the headers of the folder's images are being read"

        async def check_catalogue() -> str:
            return "" if self._snapshots.knows_assets else await services.catalog.check()

        async def check_workers() -> str:
            return services.imaging.check()

        return HealthRoutes(
            {"folder": check_folder, "catalogue": check_catalogue, "workers": check_workers},
            states={"database": services.catalog.check},
        )

    def _drop_later(self, drop: Callable[[], object]) -> None:
        """Repeat a drop once the files are removed: until then a request may read a file into the
        hot tier again.
        """
        asyncio.get_running_loop().call_later(FILES_REMOVED_S, drop)

    async def _build_image_routes(
        self,
        stack: AsyncExitStack,
        warmer: SourceWarmer,
        addresses: PublicAddressResolver,
    ) -> ImageRoutes:
        settings, services = self._settings, self._services
        limits = limits_of(settings)
        capabilities = await asyncio.to_thread(vips.capabilities)
        builtin, pools = self._builtin, self._pools
        stack.push_async_callback(pools.close)
        documents = PoolDocuments(pools, self._sources, services.derivatives, services.flights)
        maker = DerivativeMaker(
            store=services.store,
            sources=self._sources,
            promoted=self._promoted,
            unorchestrated=_build_unorchestrated(
                services, builtin, pools.remote.get(SPECIAL), stack
            ),
            image_servers=pools,
            pool=services.imaging,
            encoder=encoder_of(settings),
            max_decode_pixels=settings.iiif.max_decode_pixels,
            on_cold=warmer.enqueue,
        )
        assets = self._assets
        deliverer = Deliverer(
            assets=assets,
            derivatives=services.derivatives,
            flights=services.flights,
            maker=maker,
            limits=limits,
            thumbnail_rules=thumbnail_rules_of(settings),
            caching_rules=self._caching,
            timeout_s=settings.delivery.request_timeout_s,
        )
        return ImageRoutes(
            deliverer=deliverer,
            describer=InfoDescriber(
                assets,
                limits,
                settings.iiif,
                capabilities.outputs,
                access=services.access_services,
                documents=documents,
            ),
            identifiers=self._identifiers,
            tokens=services.tokens,
            warmer=warmer,
            hot=self._hot,
            addresses=addresses,
            settings=settings,
        )


async def _open_access_log(settings: Settings, stack: AsyncExitStack) -> AccessLog | None:
    access_log = await asyncio.to_thread(open_access_log, settings.log.access)
    if access_log is not None:
        stack.push_async_callback(asyncio.to_thread, access_log.close)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, access_log.reopen)
    return access_log


def _build_promotion(
    services: Services, sources: SourceOrchestrator, rules: CachingRules
) -> tuple[PromotedSources, Promoter]:
    """What finds promoted sources, and what makes them."""
    settings, folder = services.settings.promotion, services.settings.data_dir / "run"
    promoter = Promoter(
        services.sources,
        sources,
        services.imaging.idle_workers,
        settings,
        locks=folder / "promotions",
    )
    demand = TileDemand(folder / "tile-demand", settings.window_s)
    promoted = PromotedSources(
        services.sources,
        demand,
        settings,
        rules,
        promoter.enqueue,
        kept_bytes=services.imaging.kept_bytes,
    )
    return promoted, promoter


def _build_image_servers(services: Services) -> tuple[BuiltinImageServer, ImageServerPools]:
    """The built-in renderer, and all pools, of which it is one."""
    settings = services.settings
    admission = Admission(
        "builtin",
        at_once=services.imaging.processes,  # the pool leaves a worker to tiles
        memory=settings.image_server.decode_memory,
        queue=settings.imaging.queue,
        timeout_s=settings.image_server.queue_timeout_s,
    )
    builtin = BuiltinImageServer(
        services.imaging, encoder_of(settings), admission, settings.cache.store_from_pixels
    )
    return builtin, build_pools(settings.image_server, builtin)


def _build_unorchestrated(
    services: Services,
    builtin: BuiltinImageServer,
    special: RemotePool | None,
    stack: AsyncExitStack,
) -> UnorchestratedRenderer:
    """The renderer for sources that are not copied to fast disk."""
    memory = MemorySourceCache(
        services.store,
        services.settings.delivery.memory_sources,
        services.origins.optimised,
    )
    stack.callback(memory.close)
    return UnorchestratedRenderer(memory, builtin, special)
