"""The composition root: builds from the settings the services that every process and command uses.

All services are built explicitly, here, and closed in reverse order. `processes/ports.py` builds
the ports.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cache.disk.cache import DiskCache, DiskOptions
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.migrated_catalog import open_migrated
from orchestrator.errors import CatalogUnavailable, SchemaMismatch
from orchestrator.iiif.access_services import AccessService
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.workers.file_access import access_of
from orchestrator.ingest.events.pyramid_services import PyramidServices, open_pyramids
from orchestrator.ingest.hooks import HookJobs
from orchestrator.ingest.pipeline import Pipeline, build_pipeline
from orchestrator.ingest.policies import Policies
from orchestrator.ingest.scratch import Scratch
from orchestrator.jobs.sqs_queues import SqsQueues, open_sqs
from orchestrator.jobs.submitter import Submitter
from orchestrator.origins.configured_buckets import ConfiguredBuckets
from orchestrator.origins.credential_store import make_key
from orchestrator.origins.origin_services import OriginServices, open_origins
from orchestrator.origins.own_data import OwnData
from orchestrator.routing.access_tokens import SignedTokens
from orchestrator.routing.caching_rules import CachingRules
from orchestrator.routing.delivery_settings import failure_lifetimes_of
from orchestrator.routing.orchestrate import SourceOrchestrator
from orchestrator.settings import Database, Settings
from orchestrator.sign_in.access_rules import access_services_of
from orchestrator.storage.store import ObjectStore
from orchestrator.storage.store_factory import open_store
from orchestrator.tracing import Tracing, open_tracing
from orchestrator.transform.transform_factory import open_transformer
from orchestrator.transform.transformer import Transformer
from orchestrator.uploads.uploads_factory import UploadServices, open_uploads

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """The services that every process and command uses."""

    settings: Settings
    catalog: Catalog
    store: ObjectStore
    imaging: ImagingPool
    derivatives: DiskCache
    sources: DiskCache
    flights: SingleFlight
    origins: OriginServices
    pipeline: Pipeline
    sqs: SqsQueues | None
    submitter: Submitter
    hook_jobs: HookJobs
    source_warmer: SourceOrchestrator
    """Copies sources to fast disk for jobs, not for requests."""
    tokens: SignedTokens
    access_services: tuple[AccessService, ...]
    """Services by which users get access to restricted assets."""
    scratch: Scratch
    transformer: Transformer | None
    """None if /ico is not configured."""
    pyramids: PyramidServices | None
    """None if no bucket of originals is configured."""
    uploads: UploadServices | None
    """None if uploads are not configured."""
    tracing: Tracing

    @property
    def disk_caches(self) -> tuple[DiskCache, DiskCache]:
        """The two disk caches of this host."""
        return self.derivatives, self.sources


@asynccontextmanager
async def open_services(
    settings: Settings, *, share: int = 1, needs_database: bool = True
) -> AsyncIterator[Services]:
    """Migrate the database and open all services; `settings.database.dsn` must name a database.

    `share`: the number of processes on this host that share its cores. Unless `needs_database`, the
    services are opened without a database that is away: it is migrated and used when it answers.
    Raises CatalogUnavailable, StorageUnavailable.
    """
    async with AsyncExitStack() as stack:
        tracing = await asyncio.to_thread(open_tracing, settings.log.traces)
        stack.push_async_callback(asyncio.to_thread, tracing.close)
        hook_jobs = HookJobs(settings.ingest)
        catalog = await _open_catalog(settings.database, hook_jobs, is_needed=needs_database)
        stack.push_async_callback(catalog.close)
        policies = Policies(settings.ingest, catalog.policies)
        with nullcontext() if needs_database else suppress(CatalogUnavailable):
            await policies.check_defaults()
        store = await stack.enter_async_context(open_store(settings.storage, settings.data_dir))
        scratch = await _open_scratch(stack, settings)
        files = await asyncio.to_thread(access_of, settings, scratch.home)
        imaging = ImagingPool(settings.imaging, share=share, files=files)
        stack.push_async_callback(imaging.close)
        derivatives = await _open_cache(stack, settings, "derivatives")
        sources = await _open_cache(stack, settings, "sources")
        flights = SingleFlight(
            settings.data_dir / "run" / "flights",
            remember=failure_lifetimes_of(settings).lifetime_s,
        )
        stack.push_async_callback(flights.close)
        keys = await asyncio.to_thread(credentials_keys, settings)
        origins = await stack.enter_async_context(
            open_origins(
                settings.ingest,
                catalog.strategies,
                keys,
                await asyncio.to_thread(OwnData.of, settings),
                ConfiguredBuckets.of(settings.pyramids),
                store=store,
            )
        )
        warm = SourceOrchestrator(
            store,
            sources,
            flights,
            settings.delivery,
            rules=CachingRules.of(settings.cache.rules),
            origins=origins.optimised,
        )
        sqs = await stack.enter_async_context(open_sqs(settings.jobs))
        submitter = Submitter(catalog, sqs)
        pipeline = build_pipeline(
            catalog=catalog,
            store=store,
            imaging=imaging,
            scratch=scratch,
            origins=origins,
            policies=policies,
            settings=settings,
            submitter=submitter,
        )
        transformer = await stack.enter_async_context(
            open_transformer(
                settings,
                catalog=catalog,
                submitter=submitter,
                pool=imaging,
                derivatives=derivatives,
                sources=sources,
                flights=flights,
                open_scratch=scratch.folder,
            )
        )
        pyramids = await stack.enter_async_context(
            open_pyramids(
                settings,
                catalog=catalog,
                pipeline=pipeline,
                imaging=imaging,
                scratch=scratch,
                origins=origins,
                submitter=submitter,
            )
        )
        uploads = await stack.enter_async_context(
            open_uploads(
                settings,
                catalog=catalog,
                submitter=submitter,
                pool=imaging,
                derivatives=derivatives,
                flights=flights,
                assets=pipeline.uploaded,
                open_folder=(await _open_work_space(stack, settings, scratch)).folder,
            )
        )
        secret = await asyncio.to_thread(token_secret, settings)
        yield Services(
            settings=settings,
            catalog=catalog,
            store=store,
            imaging=imaging,
            derivatives=derivatives,
            sources=sources,
            flights=flights,
            origins=origins,
            pipeline=pipeline,
            sqs=sqs,
            submitter=submitter,
            hook_jobs=hook_jobs,
            source_warmer=warm,
            tokens=SignedTokens(secret, settings.auth.cookie),
            access_services=access_services_of(settings.auth),
            scratch=scratch,
            transformer=transformer,
            pyramids=pyramids,
            uploads=uploads,
            tracing=tracing,
        )


def token_secret(settings: Settings) -> str:
    """The configured secret, or the one in the data directory, which the first start makes."""
    configured = settings.auth.token_secret.get_secret_value()
    if configured:
        return configured
    return _stored_secret(settings, "token", lambda: secrets.token_urlsafe(48))


def credentials_keys(settings: Settings) -> list[str]:
    """The configured keys, newest first, or the one in the data directory, which the first start
    makes.
    """
    configured = settings.ingest.credentials_keys.get_secret_value()
    keys = [key.strip() for key in configured.split(",") if key.strip()]
    return keys or [_stored_secret(settings, "credentials", make_key)]


def _stored_secret(settings: Settings, name: str, make: Callable[[], str]) -> str:
    """The secret of this name in the data directory; made if there is none. Blocks."""
    path = settings.data_dir / "secrets" / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        temporary = path.with_name(f"{name}.{secrets.token_hex(8)}")
        temporary.touch(mode=0o600)
        temporary.write_text(make())
        with suppress(FileExistsError):
            # Linked, not renamed: the first process wins, and no process reads half a secret.
            path.hardlink_to(temporary)
        temporary.unlink()
    return path.read_text().strip()


async def _open_catalog(settings: Database, hook_jobs: HookJobs, *, is_needed: bool) -> Catalog:
    async def prepare() -> None:
        await (await open_migrated(settings, hook_jobs)).close()

    try:
        return await open_migrated(settings, hook_jobs)
    except CatalogUnavailable as error:
        if is_needed or isinstance(error, SchemaMismatch):
            raise
        log.warning("started without the database", extra={"reason": error.public})
        return await Catalog.open(settings, hook_jobs, prepare)


async def _open_scratch(stack: AsyncExitStack, settings: Settings) -> Scratch:
    scratch = await Scratch.open(
        settings.data_dir / "scratch", floor_bytes=settings.cache.free_space_floor
    )
    stack.push_async_callback(scratch.close)
    return scratch


async def _open_work_space(stack: AsyncExitStack, settings: Settings, scratch: Scratch) -> Scratch:
    """The work folders of uploads: below `uploads.temp_folder`, or in the scratch space."""
    if not (settings.uploads.enabled and settings.uploads.temp_folder):
        return scratch
    own = await Scratch.open(
        Path(settings.uploads.temp_folder), floor_bytes=settings.cache.free_space_floor
    )
    stack.push_async_callback(own.close)
    return own


async def _open_cache(stack: AsyncExitStack, settings: Settings, name: str) -> DiskCache:
    folder = settings.data_dir / "cache" / name
    if name == "sources" and settings.cache.sources_folder:
        folder = Path(settings.cache.sources_folder)
    cache = await DiskCache.open(folder, _cache_options(settings, name))
    stack.push_async_callback(cache.close)
    return cache


def _cache_options(settings: Settings, name: str) -> DiskOptions:
    cache = settings.cache
    return DiskOptions(
        quota=cache.derivatives_quota if name == "derivatives" else cache.sources_quota,
        floor=cache.free_space_floor,
        max_entry=cache.max_entry,
        inline_read=cache.inline_read,
        use_flush_s=cache.use_flush_s,
        lease_s=cache.lease_s,
        eviction=cache.eviction,
        shares=_shares(settings) if name == "derivatives" else (),
    )


def _shares(settings: Settings) -> tuple[tuple[str, int], ...]:
    """The shares of the derivative cache."""
    shares = dict(settings.cache.shares)
    if settings.ico.quota:
        shares["ico"] = settings.ico.quota
    return tuple(shares.items())
