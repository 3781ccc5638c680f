"""Every operation of the management API, on one screen: routes, validation and /openapi.json are
made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from orchestrator.ingest.payload.fields import Body
from orchestrator.web.api import image_models, request_models, rule_models, work_models
from orchestrator.web.api.admin_page import AdminPage
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
_BATCH = f"{_QUEUE}/batches/{{batch}}"
_STRATEGIES = "/customers/{customer}/originStrategies"
_STRATEGY = f"{_STRATEGIES}/{{strategy}}"
_STORAGE = "/customers/{customer}/storagePolicy"


@dataclass(frozen=True, slots=True)
class Resources:
    """The handlers."""

    images: ImageResource
    queue: QueueResource
    strategies: StrategyResource
    optimisation: PolicyResource
    thumbnails: PolicyResource
    storage: StorageResource
    jobs: JobResource
    overview: AdminPage
    document: OpenApiDocument


def build_operations(at: Resources, max_body: int) -> list[Operation]:
    """The table; `max_body` bounds a batch in bytes."""
    return [
        *_of_images(at.images),
        *_of_the_queue(at.queue, max_body),
        *_of_strategies(at.strategies),
        *_of_policies("/imageOptimisationPolicies", at.optimisation, request_models.OptimisationIn),
        *_of_policies("/thumbnailPolicies", at.thumbnails, request_models.ThumbnailIn),
        *_of_storage(at.storage),
        *_of_jobs(at.jobs),
        Operation(
            "GET",
            "/admin",
            at.overview.show,
            "What is cached, queued and failing",
            {200: work_models.Overview},
            "admin",
        ),
        Operation("GET", "/openapi.json", at.document.show, "This document", {200: None}, "open"),
    ]


Answers = Mapping[int, type[BaseModel] | None]


def _of_images(at: ImageResource) -> list[Operation]:
    put: Answers = {
        200: image_models.ImageTaken,
        201: image_models.ImageTaken,
        202: work_models.Accepted,
    }
    again: Answers = {200: image_models.ImageTaken, 202: work_models.Accepted}
    changed: Answers = {200: image_models.ImageOut, 202: work_models.Accepted}
    return [
        Operation(
            "POST",
            "/asset-ingest",
            at.ingest,
            "Take an image in",
            again,
            body=Body,
            raw=True,
            prefers=True,
            aliases=("/image-ingest",),
        ),
        Operation(
            "GET",
            _IMAGES,
            at.page,
            "The images of a space",
            {200: image_models.Images},
            query=request_models.AfterQuery,
        ),
        Operation("GET", _IMAGE, at.show, "An image", {200: image_models.ImageShown}),
        Operation(
            "PUT",
            _IMAGE,
            at.put,
            "Create or replace an image",
            put,
            body=Body,
            raw=True,
            prefers=True,
        ),
        Operation(
            "PATCH",
            _IMAGE,
            at.patch,
            "Change an image",
            changed,
            body=Body,
            raw=True,
            prefers=True,
        ),
        Operation("DELETE", _IMAGE, at.delete, "Delete an image", {200: image_models.Deletion}),
        Operation(
            "POST",
            f"{_IMAGE}/reingest",
            at.reingest,
            "Take an image in again",
            again,
            prefers=True,
        ),
    ]


def _of_the_queue(at: QueueResource, max_body: int) -> list[Operation]:
    queue: Answers = {200: work_models.QueueOut}
    batch: Answers = {201: work_models.BatchOut}
    again: Answers = {200: work_models.BatchAgain}
    return [
        Operation("GET", _QUEUE, at.show, "What waits in the normal lane", queue),
        Operation("GET", f"{_QUEUE}/priority", at.show_priority, "And in the priority lane", queue),
        Operation(
            "POST",
            _QUEUE,
            at.post,
            "Post a batch",
            batch,
            body=request_models.BatchIn,
            raw=True,
            max_bytes=max_body,
        ),
        Operation(
            "POST",
            f"{_QUEUE}/priority",
            at.post_priority,
            "Post a batch that goes first",
            batch,
            body=request_models.BatchIn,
            raw=True,
            max_bytes=max_body,
        ),
        Operation(
            "GET",
            f"{_QUEUE}/batches",
            at.page,
            "The batches of a customer",
            {200: work_models.Batches},
            query=request_models.BatchesQuery,
        ),
        Operation("GET", _BATCH, at.batch, "A batch", {200: work_models.BatchShown}),
        Operation(
            "GET",
            f"{_BATCH}/images",
            at.images,
            "What became of each image of a batch",
            {200: work_models.BatchImages},
            query=request_models.BeforeQuery,
        ),
        Operation("POST", f"{_BATCH}/retry", at.retry, "Try a batch's failures again", again),
        Operation("POST", f"{_BATCH}/cancel", at.cancel, "Give up what still waits", again),
    ]


def _of_strategies(at: StrategyResource) -> list[Operation]:
    one: Answers = {200: rule_models.StrategyOut}
    return [
        Operation(
            "GET",
            _STRATEGIES,
            at.page,
            "The origin strategies of a customer",
            {200: rule_models.StrategyList},
        ),
        Operation(
            "POST",
            _STRATEGIES,
            at.create,
            "Create an origin strategy",
            {201: rule_models.StrategyOut},
            body=request_models.StrategyIn,
        ),
        Operation(
            "POST",
            f"{_STRATEGIES}/test",
            at.test,
            "Which strategy fits an origin, and can it be fetched",
            {200: rule_models.OriginFound},
            body=request_models.OriginTest,
        ),
        Operation("GET", _STRATEGY, at.show, "An origin strategy", one),
        Operation(
            "PUT",
            _STRATEGY,
            at.put,
            "Replace an origin strategy",
            one,
            body=request_models.StrategyIn,
        ),
        Operation(
            "PATCH",
            _STRATEGY,
            at.patch,
            "Change an origin strategy",
            one,
            body=request_models.StrategyPatch,
        ),
        Operation("DELETE", _STRATEGY, at.delete, "Delete an origin strategy", {204: None}),
    ]


def _of_policies(
    path: str,
    at: PolicyResource,
    body: type[request_models.OptimisationIn] | type[request_models.ThumbnailIn],
) -> list[Operation]:
    found: list[Operation] = []
    put: Answers = {200: rule_models.PolicyOut, 201: rule_models.PolicyOut}
    for base, writes in ((path, "admin"), (f"/customers/{{customer}}{path}", "key")):
        one = f"{base}/{{name}}"
        access: Access = "admin" if writes == "admin" else "key"
        found += [
            Operation(
                "GET",
                base,
                at.page,
                "Policies that may be named",
                {200: rule_models.PolicyList},
            ),
            Operation("GET", one, at.show, "A policy", {200: rule_models.PolicyOut}),
            Operation("PUT", one, at.put, "Create or replace a policy", put, access, body),
            Operation("DELETE", one, at.delete, "Delete a policy", {204: None}, access),
        ]
        if body is request_models.ThumbnailIn:
            found += [
                Operation(
                    method,
                    f"{one}/preview",
                    at.preview,
                    "The thumbnails a picture gets by it",
                    {200: rule_models.Preview},
                    query=request_models.PreviewQuery,
                )
                for method in ("GET", "POST")
            ]
    return found


def _of_storage(at: StorageResource) -> list[Operation]:
    shown: Answers = {200: rule_models.StorageOut}
    return [
        Operation("GET", _STORAGE, at.show, "What a customer may store, and stores", shown),
        Operation(
            "PUT",
            _STORAGE,
            at.put,
            "Set a customer's limits",
            shown,
            "admin",
            request_models.StorageIn,
        ),
    ]


def _of_jobs(at: JobResource) -> list[Operation]:
    one: Answers = {200: work_models.JobOut}
    return [
        Operation(
            "GET",
            "/jobs",
            at.page,
            "Jobs",
            {200: work_models.JobList},
            query=request_models.JobsQuery,
        ),
        Operation("GET", "/jobs/{job}", at.show, "A job", one),
        Operation("POST", "/jobs/{job}/retry", at.retry, "Try a failed job again", one),
        Operation("POST", "/jobs/{job}/cancel", at.cancel, "Give up a job that waits", one),
    ]
