"""The API put together: resources over the installation's parts, the table, the desk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from orchestrator.catalog.catalog import Catalog
from orchestrator.ingest.pipeline import Pipeline
from orchestrator.jobs.submitter import Submitter
from orchestrator.origins.origin_services import OriginServices
from orchestrator.settings import Api as ApiSettings
from orchestrator.web.api.admin_page import AdminPage, Cached
from orchestrator.web.api.image_resource import ImageResource
from orchestrator.web.api.ingest_requests import IngestRequestProcessor, Known
from orchestrator.web.api.job_resource import JobResource
from orchestrator.web.api.openapi import OpenApiDocument
from orchestrator.web.api.operation_table import Resources, build_operations
from orchestrator.web.api.operations import Operation, OperationRouter
from orchestrator.web.api.policy_resource import PolicyResource
from orchestrator.web.api.queue_resource import QueueResource
from orchestrator.web.api.storage_resource import StorageResource
from orchestrator.web.api.strategy_resource import StrategyResource


@dataclass(frozen=True, slots=True)
class Api:
    """Every operation, and where their requests are received."""

    desk: OperationRouter
    operations: Sequence[Operation]

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Put every operation on the router."""
        for operation in self.operations:
            self.desk.add(router, operation)


class ApiServices(Protocol):
    """What of the installation the API manages; filled by app.Services."""

    @property
    def catalog(self) -> Catalog: ...  # noqa: D102  what it says

    @property
    def pipeline(self) -> Pipeline: ...  # noqa: D102

    @property
    def origins(self) -> OriginServices: ...  # noqa: D102

    @property
    def derivatives(self) -> Cached: ...  # noqa: D102

    @property
    def sources(self) -> Cached: ...  # noqa: D102

    @property
    def submitter(self) -> Submitter: ...  # noqa: D102


def build_api(parts: ApiServices, settings: ApiSettings, version: str) -> Api:
    """The API over these parts; `version` is the product's."""
    catalog, policies = parts.catalog, parts.pipeline.policies
    intake = IngestRequestProcessor(
        Known(catalog.assets, catalog.attempts),
        parts.pipeline,
        parts.origins.fetcher,
        parts.submitter,
        at_once=settings.sync_ingests,
    )
    document = OpenApiDocument(version)
    resources = Resources(
        images=ImageResource(
            assets=catalog.assets,
            attempts=catalog.attempts,
            customers=catalog.customers,
            pipeline=parts.pipeline,
            intake=intake,
        ),
        queue=QueueResource(
            assets=catalog.assets,
            jobs=catalog.jobs,
            batches=catalog.batches,
            submitter=parts.submitter,
            intake=intake,
            max_batch=settings.max_batch,
        ),
        strategies=StrategyResource(parts.origins.strategies, parts.origins.fetcher),
        optimisation=PolicyResource(policies, "optimisation"),
        thumbnails=PolicyResource(policies, "thumbnail"),
        storage=StorageResource(catalog.quotas),
        jobs=JobResource(catalog.jobs, parts.submitter),
        overview=AdminPage(
            assets=catalog.assets,
            jobs=catalog.jobs,
            claims=catalog.claims,
            caches=(parts.derivatives, parts.sources),
        ),
        document=document,
    )
    table = build_operations(resources, settings.max_body)
    document.describe(table)
    desk = OperationRouter(
        catalog.keys, catalog.customers.exists, body_timeout_s=settings.body_timeout_s
    )
    return Api(desk, table)
