"""The table of all operations of the management API. Routes, validation and /openapi.json are
derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from orchestrator.ingest.events.s3_events import MAX_EVENT_BYTES
from orchestrator.ingest.payload.fields import Body
from orchestrator.web.api import image_models, request_models, rule_models, work_models
from orchestrator.web.api.admin_page import AdminPage
from orchestrator.web.api.batch_resource import BatchResource
from orchestrator.web.api.event_resource import EventResource
from orchestrator.web.api.ico_resource import IcoResource
from orchestrator.web.api.image_resource import ImageResource
from orchestrator.web.api.job_resource import JobResource
from orchestrator.web.api.openapi import OpenApiDocument
from orchestrator.web.api.operations import Access, Operation
from orchestrator.web.api.policy_resource import PolicyResource
from orchestrator.web.api.queue_resource import QueueResource
from orchestrator.web.api.storage_resource import StorageResource
from orchestrator.web.api.strategy_resource import StrategyResource

_IMAGES = "/customers/{customer}/spaces/{space}/images"
_IMAGE = f"{_IMAGES}/{{image}}"
_QUEUE = "/customers/{customer}/queue"
_BATCHES = f"{_QUEUE}/batches"
_BATCH = f"{_BATCHES}/{{batch}}"
_STRATEGIES = "/customers/{customer}/originStrategies"
_STRATEGY = f"{_STRATEGIES}/{{strategy}}"
_STORAGE = "/customers/{customer}/storagePolicy"

Responses = Mapping[int, type[BaseModel] | None]


@dataclass(frozen=True, slots=True)
class Resources:
    """The objects whose methods handle the operations."""

    images: ImageResource
    queue: QueueResource
    batches: BatchResource
    strategies: StrategyResource
    optimisation: PolicyResource
    thumbnails: PolicyResource
    storage: StorageResource
    jobs: JobResource
    ico: IcoResource
    events: EventResource
    admin: AdminPage
    document: OpenApiDocument


def build_operations(resources: Resources, max_body: int) -> list[Operation]:
    """Return the table; `max_body` is the largest body of a batch in bytes."""
    return [
        *_image_operations(resources.images),
        *_queue_operations(resources.queue, max_body),
        *_batch_operations(resources.batches),
        *_strategy_operations(resources.strategies),
        *_policy_operations(
            "/imageOptimisationPolicies", resources.optimisation, request_models.OptimisationIn
        ),
        *_policy_operations("/thumbnailPolicies", resources.thumbnails, request_models.ThumbnailIn),
        *_storage_operations(resources.storage),
        *_job_operations(resources.jobs),
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
        Operation(
            "GET",
            "/admin",
            resources.admin.show,
            "Show assets, disk caches, queue and failed jobs",
            {200: work_models.Overview},
            "admin",
        ),
        Operation(
            "GET",
            "/openapi.json",
            resources.document.show,
            "Show this document",
            {200: None},
            "open",
        ),
    ]


def _image_operations(resource: ImageResource) -> list[Operation]:
    put: Responses = {
        200: image_models.ImageTaken,
        201: image_models.ImageTaken,
        202: work_models.Accepted,
    }
    ingest: Responses = {200: image_models.ImageTaken, 202: work_models.Accepted}
    patch: Responses = {200: image_models.ImageOut, 202: work_models.Accepted}
    return [
        Operation(
            "POST",
            "/asset-ingest",
            resource.ingest,
            "Ingest an asset",
            ingest,
            body=Body,
            raw=True,
            can_respond_async=True,
            aliases=("/image-ingest",),
        ),
        Operation(
            "GET",
            _IMAGES,
            resource.list_images,
            "List the assets of a space",
            {200: image_models.Images},
            query=request_models.AfterQuery,
        ),
        Operation("GET", _IMAGE, resource.show, "Show an asset", {200: image_models.ImageShown}),
        Operation(
            "PUT",
            _IMAGE,
            resource.put,
            "Create or replace an asset",
            put,
            body=Body,
            raw=True,
            can_respond_async=True,
        ),
        Operation(
            "PATCH",
            _IMAGE,
            resource.patch,
            "Change an asset",
            patch,
            body=Body,
            raw=True,
            can_respond_async=True,
        ),
        Operation(
            "DELETE", _IMAGE, resource.delete, "Delete an asset", {200: image_models.Deletion}
        ),
        Operation(
            "POST",
            f"{_IMAGE}/reingest",
            resource.reingest,
            "Ingest an asset again",
            ingest,
            can_respond_async=True,
        ),
    ]


def _queue_operations(resource: QueueResource, max_body: int) -> list[Operation]:
    queue: Responses = {200: work_models.QueueOut}
    batch: Responses = {201: work_models.BatchOut}
    return [
        Operation("GET", _QUEUE, resource.show, "Show the work waiting in the normal lane", queue),
        Operation(
            "GET",
            f"{_QUEUE}/priority",
            resource.show_priority,
            "Show the work waiting in the priority lane",
            queue,
        ),
        Operation(
            "POST",
            _QUEUE,
            resource.post,
            "Post a batch to the normal lane",
            batch,
            body=request_models.BatchIn,
            raw=True,
            max_bytes=max_body,
        ),
        Operation(
            "POST",
            f"{_QUEUE}/priority",
            resource.post_priority,
            "Post a batch to the priority lane",
            batch,
            body=request_models.BatchIn,
            raw=True,
            max_bytes=max_body,
        ),
    ]


def _batch_operations(resource: BatchResource) -> list[Operation]:
    changed: Responses = {200: work_models.BatchAgain}
    return [
        Operation(
            "GET",
            _BATCHES,
            resource.list_batches,
            "List the batches of a customer",
            {200: work_models.Batches},
            query=request_models.BatchesQuery,
        ),
        Operation("GET", _BATCH, resource.show, "Show a batch", {200: work_models.BatchShown}),
        Operation(
            "GET",
            f"{_BATCH}/images",
            resource.list_images,
            "List the jobs of a batch, one for each asset",
            {200: work_models.BatchImages},
            query=request_models.BeforeQuery,
        ),
        Operation(
            "POST", f"{_BATCH}/retry", resource.retry, "Retry the failed jobs of a batch", changed
        ),
        Operation(
            "POST",
            f"{_BATCH}/cancel",
            resource.cancel,
            "Cancel the waiting and running jobs of a batch",
            changed,
        ),
    ]


def _strategy_operations(resource: StrategyResource) -> list[Operation]:
    strategy: Responses = {200: rule_models.StrategyOut}
    return [
        Operation(
            "GET",
            _STRATEGIES,
            resource.list_strategies,
            "List the origin strategies of a customer",
            {200: rule_models.StrategyList},
        ),
        Operation(
            "POST",
            _STRATEGIES,
            resource.create,
            "Create an origin strategy",
            {201: rule_models.StrategyOut},
            body=request_models.StrategyIn,
        ),
        Operation(
            "POST",
            f"{_STRATEGIES}/test",
            resource.test,
            "Test which strategy matches an origin, and whether the origin can be fetched",
            {200: rule_models.OriginFound},
            body=request_models.OriginTest,
        ),
        Operation("GET", _STRATEGY, resource.show, "Show an origin strategy", strategy),
        Operation(
            "PUT",
            _STRATEGY,
            resource.put,
            "Replace an origin strategy",
            strategy,
            body=request_models.StrategyIn,
        ),
        Operation(
            "PATCH",
            _STRATEGY,
            resource.patch,
            "Change an origin strategy",
            strategy,
            body=request_models.StrategyPatch,
        ),
        Operation("DELETE", _STRATEGY, resource.delete, "Delete an origin strategy", {204: None}),
    ]


def _policy_operations(
    path: str,
    resource: PolicyResource,
    body: type[request_models.OptimisationIn] | type[request_models.ThumbnailIn],
) -> list[Operation]:
    """Return the operations of the global policies and of a customer's own."""
    table: list[Operation] = []
    put: Responses = {200: rule_models.PolicyOut, 201: rule_models.PolicyOut}
    writers: dict[str, Access] = {path: "admin", f"/customers/{{customer}}{path}": "key"}
    for policies, access in writers.items():
        policy = f"{policies}/{{name}}"
        table += [
            Operation(
                "GET",
                policies,
                resource.list_policies,
                "List the policies that a request may name",
                {200: rule_models.PolicyList},
            ),
            Operation("GET", policy, resource.show, "Show a policy", {200: rule_models.PolicyOut}),
            Operation("PUT", policy, resource.put, "Create or replace a policy", put, access, body),
            Operation("DELETE", policy, resource.delete, "Delete a policy", {204: None}, access),
        ]
        if body is request_models.ThumbnailIn:
            table += [
                Operation(
                    method,
                    f"{policy}/preview",
                    resource.preview,
                    "List the thumbnails that the policy makes of an image",
                    {200: rule_models.Preview},
                    query=request_models.PreviewQuery,
                )
                for method in ("GET", "POST")
            ]
    return table


def _storage_operations(resource: StorageResource) -> list[Operation]:
    storage: Responses = {200: rule_models.StorageOut}
    return [
        Operation(
            "GET", _STORAGE, resource.show, "Show a customer's storage limits and use", storage
        ),
        Operation(
            "PUT",
            _STORAGE,
            resource.put,
            "Set a customer's storage limits",
            storage,
            "admin",
            request_models.StorageIn,
        ),
    ]


def _job_operations(resource: JobResource) -> list[Operation]:
    job: Responses = {200: work_models.JobOut}
    return [
        Operation(
            "GET",
            "/jobs",
            resource.list_jobs,
            "List jobs",
            {200: work_models.JobList},
            query=request_models.JobsQuery,
        ),
        Operation("GET", "/jobs/{job}", resource.show, "Show a job", job),
        Operation("POST", "/jobs/{job}/retry", resource.retry, "Retry a failed job", job),
        Operation(
            "POST", "/jobs/{job}/cancel", resource.cancel, "Cancel a waiting or running job", job
        ),
    ]
