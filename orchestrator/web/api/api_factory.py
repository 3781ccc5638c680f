"""Builds the API: the resources over the services of the installation, the table of operations and
the router.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from orchestrator.cache.disk.cache import DiskCache
from orchestrator.catalog.catalog import Catalog
from orchestrator.ingest.events.pyramid_services import PyramidServices
from orchestrator.ingest.pipeline import Pipeline
from orchestrator.ingest.scratch import Scratch
from orchestrator.ingest.sent_pictures import SentPictures
from orchestrator.jobs.submitter import Submitter
from orchestrator.jobs.worker_options import WorkerOptions
from orchestrator.manifests.query_matches import QueryMatches
from orchestrator.origins.origin_services import OriginServices
from orchestrator.settings import Settings
from orchestrator.storage.store import ObjectStore
from orchestrator.transform.transformer import Transformer
from orchestrator.web.api.admin_page import AdminPage
from orchestrator.web.api.batch_resource import BatchResource
from orchestrator.web.api.batch_validation import BatchValidator
from orchestrator.web.api.bulk_resource import BulkResource
from orchestrator.web.api.customer_resource import CustomerResource, KeyResource, SpaceResource
from orchestrator.web.api.event_resource import EventResource
from orchestrator.web.api.ico_resource import IcoResource
from orchestrator.web.api.image_list_resource import ImageListResource
from orchestrator.web.api.image_resource import ImageResource
from orchestrator.web.api.ingest_admission import IngestAdmission
from orchestrator.web.api.ingest_requests import IngestRequestProcessor
from orchestrator.web.api.job_resource import JobResource
from orchestrator.web.api.named_query_resource import NamedQueryResource
from orchestrator.web.api.openapi import OpenApiDocument
from orchestrator.web.api.operation_table import Resources, build_operations
from orchestrator.web.api.operations import Operation, OperationRouter
from orchestrator.web.api.policy_resource import PolicyResource
from orchestrator.web.api.queue_resource import QueueResource
from orchestrator.web.api.storage_resource import StorageResource
from orchestrator.web.api.strategy_resource import StrategyResource
from orchestrator.web.page_templates import Pages
from orchestrator.web.static_files import StaticFiles


@dataclass(frozen=True, slots=True)
class Api:
    """All operations, and the object that routes requests to them."""

    router: OperationRouter
    operations: Sequence[Operation]
    files: StaticFiles
    """What the pages load; it needs no key."""

    def add_to(self, dispatcher: web.UrlDispatcher) -> None:
        """Add the routes of all operations to an application's dispatcher."""
        for operation in self.operations:
            self.router.add(dispatcher, operation)
        self.files.add_to(dispatcher)


class ApiServices(Protocol):
    """The services that the API manages; `app.Services` has them."""

    @property
    def catalog(self) -> Catalog: ...  # noqa: D102  the types say it

    @property
    def store(self) -> ObjectStore: ...  # noqa: D102

    @property
    def scratch(self) -> Scratch: ...  # noqa: D102

    @property
    def pipeline(self) -> Pipeline: ...  # noqa: D102

    @property
    def origins(self) -> OriginServices: ...  # noqa: D102

    @property
    def derivatives(self) -> DiskCache: ...  # noqa: D102

    @property
    def sources(self) -> DiskCache: ...  # noqa: D102

    @property
    def submitter(self) -> Submitter: ...  # noqa: D102

    @property
    def pyramids(self) -> PyramidServices | None: ...  # noqa: D102

    @property
    def transformer(self) -> Transformer | None: ...  # noqa: D102


def build_api(services: ApiServices, settings: Settings, version: str) -> Api:
    """Return the API over these services; `version` is the version of the product."""
    catalog, policies = services.catalog, services.pipeline.policies
    worker_options = WorkerOptions.of(settings)
    ingest_requests = IngestRequestProcessor(
        catalog.assets,
        catalog.attempts,
        pipeline=services.pipeline,
        origins=services.origins.fetcher,
        submitter=services.submitter,
        admission=IngestAdmission(
            in_all=settings.api.sync_ingests,
            per_customer=worker_options.per_customer,
            per_host=worker_options.per_host,
        ),
        notify_batches=bool(settings.ingest.batch_webhook_url),
    )
    document = OpenApiDocument(version)
    pages = Pages.load(version, vendor=False)
    resources = Resources(
        customers=CustomerResource(catalog.customers),
        spaces=SpaceResource(catalog.spaces),
        keys=KeyResource(catalog.keys),
        images=ImageResource(
            assets=catalog.assets,
            attempts=catalog.attempts,
            customers=catalog.customers,
            editor=services.pipeline.editor,
            ingest_requests=ingest_requests,
            sent=SentPictures(
                store=services.store,
                objects=catalog.objects,
                versions=catalog.versions,
                remover=services.pipeline.remover,
                scratch=services.scratch,
                settings=settings.ingest,
                at_once=settings.api.sync_ingests,
            ),
        ),
        image_lists=ImageListResource(catalog.assets, catalog.selections),
        bulk=BulkResource(catalog.selections, catalog.bulk_jobs, services.submitter),
        queue=QueueResource(
            batches=catalog.batches,
            validator=BatchValidator(catalog.assets, ingest_requests, settings.api.max_batch),
            ingest_requests=ingest_requests,
        ),
        batches=BatchResource(
            jobs=catalog.jobs, batches=catalog.batches, submitter=services.submitter
        ),
        strategies=StrategyResource(services.origins.strategies, services.origins.fetcher),
        optimisation=PolicyResource(policies, "optimisation"),
        thumbnails=PolicyResource(policies, "thumbnail"),
        named_queries=NamedQueryResource(
            catalog.named_queries,
            QueryMatches(catalog.named_queries, catalog.selections, catalog.spaces),
        ),
        storage=StorageResource(catalog.quotas),
        jobs=JobResource(catalog.jobs, services.submitter),
        ico=IcoResource(services.transformer, services.submitter),
        events=EventResource(services.pyramids, settings.pyramids, catalog.keys),
        admin=AdminPage(
            assets=catalog.assets,
            jobs=catalog.jobs,
            claims=catalog.claims,
            batches=catalog.batches,
            processes=catalog.processes,
            submitter=services.submitter,
            caches=(services.derivatives, services.sources),
            pages=pages,
        ),
        document=document,
    )
    operations = build_operations(resources, settings.api.max_body)
    document.describe(operations)
    router = OperationRouter(
        catalog.keys,
        catalog.customers.exists,
        body_timeout_s=settings.api.body_timeout_s,
        rate_limit=settings.api.rate_limit,
    )
    return Api(router, operations, pages.files)
