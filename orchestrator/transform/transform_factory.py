"""Builds the transformer of a process from the settings and services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator.cache.disk.cache import DiskCache
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.catalog.catalog import Catalog
from orchestrator.imaging.pool import ImagingPool
from orchestrator.jobs.submitter import Submitter
from orchestrator.settings import Settings
from orchestrator.transform.access import AccessRules
from orchestrator.transform.originals import OpenScratch, Originals
from orchestrator.transform.picture_shaper import PictureShaper
from orchestrator.transform.result_jobs import ResultJobs
from orchestrator.transform.result_maker import ResultMaker
from orchestrator.transform.stored_results import StoredResults
from orchestrator.transform.stores import open_stores
from orchestrator.transform.transformer import Transformer
from orchestrator.transform.write_back import WriteBack


@asynccontextmanager
async def open_transformer(
    settings: Settings,
    *,
    catalog: Catalog,
    submitter: Submitter,
    pool: ImagingPool,
    derivatives: DiskCache,
    sources: DiskCache,
    flights: SingleFlight,
    open_scratch: OpenScratch,
) -> AsyncIterator[Transformer | None]:
    """Open the stores of pictures and build the transformer; None if the settings permit no
    request. Raises SettingsError.
    """
    ico = settings.ico
    if not ico.enabled:
        yield None
        return
    rules = AccessRules(ico)
    async with open_stores(ico, settings.storage) as stores:
        jobs = ResultJobs(submitter)
        originals = Originals(
            stores,
            sources,
            flights,
            open_scratch=open_scratch,
            on_replaced=jobs.record_change,
            recheck_s=ico.recheck_s,
            max_bytes=ico.max_bytes,
        )
        maker = ResultMaker(derivatives, flights, PictureShaper(pool, ico))
        write_back = WriteBack(
            stores,
            originals,
            maker,
            catalog.ico_results,
            lock=catalog.exclusive,
            cache_control=ico.cache_control,
        )
        try:
            yield Transformer(
                rules=rules,
                stores=stores,
                originals=originals,
                maker=maker,
                results=StoredResults(stores, jobs),
                write_back=write_back,
                rows=catalog.ico_results,
                derivatives=derivatives,
                timeout_s=settings.delivery.request_timeout_s,
            )
        finally:
            await jobs.close()
