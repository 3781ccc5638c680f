"""Builds what makes pyramids of a bucket, over the services of the installation, and closes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from orchestrator.catalog.catalog import Catalog
from orchestrator.errors import OriginUnavailable, Unavailable
from orchestrator.fault_log import FaultLog
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.events.event_acceptance import PYRAMID, PYRAMID_REMOVAL, EventAcceptor
from orchestrator.ingest.events.event_notes import Notes
from orchestrator.ingest.events.event_queue import EventReceiver
from orchestrator.ingest.events.pyramid_jobs import (
    PyramidHandler,
    PyramidParts,
    RemovalHandler,
    digest_of,
)
from orchestrator.ingest.events.pyramid_scan import PyramidScan
from orchestrator.ingest.events.pyramid_window import PyramidWindow
from orchestrator.ingest.events.sns_messages import SnsMessages
from orchestrator.ingest.pipeline import Pipeline
from orchestrator.ingest.pyramid_policies import policy_of
from orchestrator.ingest.scratch import Scratch
from orchestrator.jobs.fair_slots import FairSlots
from orchestrator.jobs.submitter import Submitter
from orchestrator.jobs.worker_loop import Handler
from orchestrator.jobs.worker_options import conversions_at_once
from orchestrator.origins.http_reader import HttpReader
from orchestrator.origins.origin_kinds import OriginKind
from orchestrator.origins.origin_services import OriginServices
from orchestrator.origins.reader_types import NotModified, OriginAccess
from orchestrator.settings import Settings
from orchestrator.storage.s3_store import S3Store, open_s3
from orchestrator.storage.sqs_client import open_queues

log = logging.getLogger(__name__)
BucketName = Literal["source", "process", "image"]
_LOOK_S = 60.0
_MAX_SNS_BYTES = 64 * 1024
_SNS_S = 20.0


@dataclass(frozen=True, slots=True)
class PyramidServices:
    """What makes pyramids of a bucket, for other packages. `handlers` by the kind of job;
    `receiver` is None without a queue; `at_once` is how many pyramids are made at once.
    """

    acceptor: EventAcceptor
    sns: SnsMessages
    window: PyramidWindow
    window_keeper: WindowKeeper
    receiver: EventReceiver | None
    handlers: Mapping[str, Handler]
    scan: PyramidScan
    at_once: int


class WindowKeeper:
    """Keeps the due times of queued jobs at the opening of the window: what waits for it is not
    overdue, and a change of the schedule is in force.
    """

    def __init__(self, window: PyramidWindow, catalog: Catalog) -> None:
        self._window = window
        self._due_times = catalog.due_times
        self._faults = FaultLog(log, "window not kept", "window kept again")

    async def run(self) -> None:
        """Keep them until cancelled."""
        while True:
            closed_s = self._window.closed_s()
            try:
                await self._due_times.delay([PYRAMID], closed_s)
            except Unavailable as error:
                self._faults.report(reason=error.public)
            else:
                self._faults.clear()
            await asyncio.sleep(min(closed_s or _LOOK_S, _LOOK_S))


@asynccontextmanager
async def open_pyramids(
    settings: Settings,
    *,
    catalog: Catalog,
    pipeline: Pipeline,
    imaging: ImagingPool,
    scratch: Scratch,
    origins: OriginServices,
    submitter: Submitter,
) -> AsyncIterator[PyramidServices | None]:
    """Open the buckets and the queue; None if no buckets are configured. Nothing is read yet."""
    own = settings.pyramids
    if not own.has_buckets:
        yield None
        return
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(open_bucket(settings, "source"))
        images = await stack.enter_async_context(open_bucket(settings, "image"))
        notes = None
        if own.process_bucket:
            process = await stack.enter_async_context(open_bucket(settings, "process"))
            notes = Notes(process, own.notes_prefix)
        at_once = own.max_threads or conversions_at_once(settings)
        policy = policy_of(own)
        parts = PyramidParts(
            settings=own,
            policy=policy,
            sources=catalog.pyramids,
            assets=catalog.assets,
            images=images,
            source_bucket=source,
            notes=notes,
            imaging=imaging,
            scratch=scratch,
            fetcher=origins.fetcher,
            runner=pipeline.runner,
            editor=pipeline.editor,
            slots=FairSlots(at_once),
            max_attempts=settings.jobs.max_attempts,
        )
        policies = digest_of(policy, is_copyrighted=False), digest_of(policy, is_copyrighted=True)
        make = PyramidHandler(parts)
        window = PyramidWindow(own)
        acceptor = EventAcceptor(own, catalog, submitter, notes)
        receiver = None
        if own.sqs_queue:
            [queue] = await stack.enter_async_context(open_queues(settings.jobs, [own.sqs_queue]))
            receiver = EventReceiver(queue, acceptor)
        yield PyramidServices(
            acceptor=acceptor,
            sns=SnsMessages(own.sns_topics, lambda address: _fetch(origins.http, address)),
            window=window,
            window_keeper=WindowKeeper(window, catalog),
            receiver=receiver,
            handlers={PYRAMID: make, PYRAMID_REMOVAL: RemovalHandler(parts, make)},
            scan=PyramidScan(own, acceptor, source, notes, policies),
            at_once=at_once,
        )


@asynccontextmanager
async def open_bucket(settings: Settings, name: BucketName) -> AsyncIterator[S3Store]:
    """Open one of the buckets, which is configured; nothing is read yet."""
    login = settings.pyramids.logins.get(name) or settings.pyramids
    fields = ("endpoint", "region", "access_key", "secret_key")
    changes = {field: getattr(login, field) for field in fields}
    bucket = getattr(settings.pyramids, f"{name}_bucket")
    changes |= {"kind": "s3", "bucket": bucket, "prefix": ""}
    async with open_s3(settings.storage.model_copy(update=changes)) as store:
        yield store


async def _fetch(http: HttpReader, address: str) -> bytes:
    """The body at an address of SNS. Raises OriginUnavailable."""
    body = bytearray()
    try:
        async with (
            asyncio.timeout(_SNS_S),
            http.open(address, OriginAccess(OriginKind.DEFAULT)) as stream,
        ):
            assert not isinstance(stream, NotModified), "no ETag was known"  # noqa: S101
            async for chunk in stream.chunks:
                body += chunk
                if len(body) > _MAX_SNS_BYTES:
                    raise OriginUnavailable("The answer of SNS is too large.", retryable=False)
    except TimeoutError as error:
        raise OriginUnavailable("SNS did not answer in time.", code="origin_timeout") from error
    return bytes(body)
