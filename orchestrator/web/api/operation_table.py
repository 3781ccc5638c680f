"""Every operation of the management API, on one screen: routes, validation and /openapi.json are
made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from orchestrator.ingest.payload.fields import Body
from orchestrator.web.api import image_models as shapes
from orchestrator.web.api import request_models as bodies
from orchestrator.web.api import rule_models as shapes_of_rules
from orchestrator.web.api import work_models as shapes_of_work
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
        *_of_policies("/imageOptimisationPolicies", at.optimisation, bodies.OptimisationIn),
        *_of_policies("/thumbnailPolicies", at.thumbnails, bodies.ThumbnailIn),
        *_of_storage(at.storage),
        *_of_jobs(at.jobs),
        Operation(
            "GET",
            "/admin",
            at.overview.show,
            "What is cached, queued and failing",
            {200: shapes_of_work.Overview},
            "admin",
        ),
        Operation("GET", "/openapi.json", at.document.show, "This document", {200: None}, "open"),
    ]


Answers = Mapping[int, type[BaseModel] | None]


def _of_images(at: ImageResource) -> list[Operation]:
    put: Answers = {200: shapes.ImageTaken, 201: shapes.ImageTaken, 202: shapes_of_work.Accepted}
    again: Answers = {200: shapes.ImageTaken, 202: shapes_of_work.Accepted}
    changed: Answers = {200: shapes.ImageOut, 202: shapes_of_work.Accepted}
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
            {200: shapes.Images},
            query=bodies.AfterQuery,
        ),
        Operation("GET", _IMAGE, at.show, "An image", {200: shapes.ImageShown}),
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
        Operation("DELETE", _IMAGE, at.delete, "Delete an image", {200: shapes.Deletion}),
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
    queue: Answers = {200: shapes_of_work.QueueOut}
    batch: Answers = {201: shapes_of_work.BatchOut}
    again: Answers = {200: shapes_of_work.BatchAgain}
    return [
        Operation("GET", _QUEUE, at.show, "What waits in the normal lane", queue),
        Operation("GET", f"{_QUEUE}/priority", at.show_priority, "And in the priority lane", queue),
        Operation(
            "POST",
            _QUEUE,
            at.post,
            "Post a batch",
            batch,
            body=bodies.BatchIn,
            raw=True,
            max_bytes=max_body,
        ),
        Operation(
            "POST",
            f"{_QUEUE}/priority",
            at.post_priority,
            "Post a batch that goes first",
            batch,
            body=bodies.BatchIn,
            raw=True,
            max_bytes=max_body,
        ),
        Operation(
            "GET",
            f"{_QUEUE}/batches",
            at.page,
            "The batches of a customer",
            {200: shapes_of_work.Batches},
            query=bodies.BatchesQuery,
        ),
        Operation("GET", _BATCH, at.batch, "A batch", {200: shapes_of_work.BatchShown}),
        Operation(
            "GET",
            f"{_BATCH}/images",
            at.images,
            "What became of each image of a batch",
            {200: shapes_of_work.BatchImages},
            query=bodies.BeforeQuery,
        ),
        Operation("POST", f"{_BATCH}/retry", at.retry, "Try a batch's failures again", again),
        Operation("POST", f"{_BATCH}/cancel", at.cancel, "Give up what still waits", again),
    ]


def _of_strategies(at: StrategyResource) -> list[Operation]:
    one: Answers = {200: shapes_of_rules.StrategyOut}
    return [
        Operation(
            "GET",
            _STRATEGIES,
            at.page,
            "The origin strategies of a customer",
            {200: shapes_of_rules.StrategyList},
        ),
        Operation(
            "POST",
            _STRATEGIES,
            at.create,
            "Create an origin strategy",
            {201: shapes_of_rules.StrategyOut},
            body=bodies.StrategyIn,
        ),
        Operation(
            "POST",
            f"{_STRATEGIES}/test",
            at.test,
            "Which strategy fits an origin, and can it be fetched",
            {200: shapes_of_rules.OriginFound},
            body=bodies.OriginTest,
        ),
        Operation("GET", _STRATEGY, at.show, "An origin strategy", one),
        Operation(
            "PUT", _STRATEGY, at.put, "Replace an origin strategy", one, body=bodies.StrategyIn
        ),
        Operation(
            "PATCH",
            _STRATEGY,
            at.patch,
            "Change an origin strategy",
            one,
            body=bodies.StrategyPatch,
        ),
        Operation("DELETE", _STRATEGY, at.delete, "Delete an origin strategy", {204: None}),
    ]


def _of_policies(
    path: str, at: PolicyResource, body: type[bodies.OptimisationIn] | type[bodies.ThumbnailIn]
) -> list[Operation]:
    found: list[Operation] = []
    put: Answers = {200: shapes_of_rules.PolicyOut, 201: shapes_of_rules.PolicyOut}
    for base, writes in ((path, "admin"), (f"/customers/{{customer}}{path}", "key")):
        one = f"{base}/{{name}}"
        access: Access = "admin" if writes == "admin" else "key"
        found += [
            Operation(
                "GET",
                base,
                at.page,
                "Policies that may be named",
                {200: shapes_of_rules.PolicyList},
            ),
            Operation("GET", one, at.show, "A policy", {200: shapes_of_rules.PolicyOut}),
            Operation("PUT", one, at.put, "Create or replace a policy", put, access, body),
            Operation("DELETE", one, at.delete, "Delete a policy", {204: None}, access),
        ]
        if body is bodies.ThumbnailIn:
            found += [
                Operation(
                    method,
                    f"{one}/preview",
                    at.preview,
                    "The thumbnails a picture gets by it",
                    {200: shapes_of_rules.Preview},
                    query=bodies.PreviewQuery,
                )
                for method in ("GET", "POST")
            ]
    return found


def _of_storage(at: StorageResource) -> list[Operation]:
    shown: Answers = {200: shapes_of_rules.StorageOut}
    return [
        Operation("GET", _STORAGE, at.show, "What a customer may store, and stores", shown),
        Operation(
            "PUT", _STORAGE, at.put, "Set a customer's limits", shown, "admin", bodies.StorageIn
        ),
    ]


def _of_jobs(at: JobResource) -> list[Operation]:
    one: Answers = {200: shapes_of_work.JobOut}
    return [
        Operation(
            "GET", "/jobs", at.page, "Jobs", {200: shapes_of_work.JobList}, query=bodies.JobsQuery
        ),
        Operation("GET", "/jobs/{job}", at.show, "A job", one),
        Operation("POST", "/jobs/{job}/retry", at.retry, "Try a failed job again", one),
        Operation("POST", "/jobs/{job}/cancel", at.cancel, "Give up a job that waits", one),
    ]
