"""The operations of a customer's queue, of batches, and of jobs."""

from __future__ import annotations

from orchestrator.web.api import request_models, work_models
from orchestrator.web.api.batch_resource import BatchResource
from orchestrator.web.api.job_resource import JobResource
from orchestrator.web.api.operations import Operation, Responses
from orchestrator.web.api.queue_resource import QueueResource

_QUEUE = "/customers/{customer}/queue"
_BATCHES = f"{_QUEUE}/batches"
_BATCH = f"{_BATCHES}/{{batch}}"


def queue_operations(resource: QueueResource, max_body: int) -> list[Operation]:
    """Return the operations of a customer's queue; `max_body` is the largest body of a batch in
    bytes.
    """
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


def batch_operations(resource: BatchResource) -> list[Operation]:
    """Return the operations of a customer's batches."""
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
        Operation(
            "GET",
            f"{_QUEUE}/active",
            resource.list_active,
            "List the unfinished batches of a customer",
            {200: work_models.Batches},
            query=request_models.BeforeQuery,
        ),
        Operation(
            "GET",
            f"{_QUEUE}/recent",
            resource.list_recent,
            "List the finished batches of a customer, the last one first",
            {200: work_models.Batches},
            query=request_models.RecentQuery,
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


def job_operations(resource: JobResource) -> list[Operation]:
    """Return the operations of jobs."""
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
