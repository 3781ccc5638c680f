"""The table of all operations of the management API, a module for each subject. Routes, validation
and /openapi.json are derived from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.ingest.events.s3_events import MAX_EVENT_BYTES
from orchestrator.web.api import request_models, work_models
from orchestrator.web.api.admin_operations import admin_operations
from orchestrator.web.api.admin_page import AdminPage
from orchestrator.web.api.batch_resource import BatchResource
from orchestrator.web.api.bulk_operations import bulk_operations
from orchestrator.web.api.bulk_resource import BulkResource
from orchestrator.web.api.customer_operations import (
    customer_operations,
    key_operations,
    space_operations,
)
from orchestrator.web.api.customer_resource import CustomerResource, KeyResource, SpaceResource
from orchestrator.web.api.event_resource import EventResource
from orchestrator.web.api.ico_resource import IcoResource
from orchestrator.web.api.image_list_resource import ImageListResource
from orchestrator.web.api.image_operations import image_operations, list_operations
from orchestrator.web.api.image_resource import ImageResource
from orchestrator.web.api.job_resource import JobResource
from orchestrator.web.api.named_query_operations import named_query_operations
from orchestrator.web.api.named_query_resource import NamedQueryResource
from orchestrator.web.api.openapi import OpenApiDocument
from orchestrator.web.api.operations import Operation
from orchestrator.web.api.policy_resource import PolicyResource
from orchestrator.web.api.queue_operations import (
    batch_operations,
    job_operations,
    queue_operations,
)
from orchestrator.web.api.queue_resource import QueueResource
from orchestrator.web.api.rule_operations import (
    policy_operations,
    storage_operations,
    strategy_operations,
)
from orchestrator.web.api.storage_resource import StorageResource
from orchestrator.web.api.strategy_resource import StrategyResource


@dataclass(frozen=True, slots=True)
class Resources:
    """The objects whose methods handle the operations."""

    customers: CustomerResource
    spaces: SpaceResource
    keys: KeyResource
    images: ImageResource
    image_lists: ImageListResource
    bulk: BulkResource
    queue: QueueResource
    batches: BatchResource
    strategies: StrategyResource
    optimisation: PolicyResource
    thumbnails: PolicyResource
    named_queries: NamedQueryResource
    storage: StorageResource
    jobs: JobResource
    ico: IcoResource
    events: EventResource
    admin: AdminPage
    document: OpenApiDocument


def build_operations(resources: Resources, max_body: int) -> list[Operation]:
    """Return the table; `max_body` is the largest body of a batch in bytes."""
    return [
        *customer_operations(resources.customers),
        *space_operations(resources.spaces),
        *key_operations(resources.keys),
        *list_operations(resources.image_lists),
        *bulk_operations(resources.bulk),
        *image_operations(resources.images),
        *queue_operations(resources.queue, max_body),
        *batch_operations(resources.batches),
        *strategy_operations(resources.strategies),
        *policy_operations(
            "/imageOptimisationPolicies", resources.optimisation, request_models.OptimisationIn
        ),
        *policy_operations("/thumbnailPolicies", resources.thumbnails, request_models.ThumbnailIn),
        *named_query_operations(resources.named_queries),
        *storage_operations(resources.storage),
        *job_operations(resources.jobs),
        Operation(
            "POST",
            "/ico/warm",
            resources.ico.warm,
            "Make and store results of /ico ahead of requests",
            {202: work_models.WarmUpOut},
            "admin",
            request_models.WarmUpIn,
        ),
        Operation(
            "POST",
            "/events/s3",
            resources.events.post,
            "Take events of the bucket whose pictures become pyramids",
            {200: work_models.EventsOut},
            "sender",
            request_models.EventsIn,
            raw=True,
            max_bytes=MAX_EVENT_BYTES,
        ),
        *admin_operations(resources.admin),
        Operation(
            "GET",
            "/openapi.json",
            resources.document.show,
            "Show this document",
            {200: None},
            "open",
        ),
    ]
