"""The ingest worker: runs jobs, embedded in a housekeeping process or as a process of its own
(`orchestrator worker`). The sweepers run beside it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import uvloop

from orchestrator.app import Services
from orchestrator.catalog.bulk_jobs import BULK
from orchestrator.catalog.jobs import CONVERT, INGEST, JOBS_CHANNEL
from orchestrator.catalog.listener import Listener
from orchestrator.errors import Unavailable
from orchestrator.ingest.bulk_handler import BulkHandler
from orchestrator.ingest.events.event_acceptance import PYRAMID, PYRAMID_REMOVAL
from orchestrator.ingest.hooks import HookHandler
from orchestrator.ingest.job_handler import (
    ConvertHandler,
    IngestHandler,
    LostIngests,
    draft_from_message,
)
from orchestrator.ingest.sweeper import Sweeper
from orchestrator.jobs.dead_workers import DeadWorkers
from orchestrator.jobs.job_sweeper import JobSweeper
from orchestrator.jobs.sqs_queues import SqsReceiver, check_queue
from orchestrator.jobs.worker_loop import Handler, Worker
from orchestrator.jobs.worker_options import WorkerOptions
from orchestrator.log import set_up_logging
from orchestrator.processes.background import Loop, keep_running
from orchestrator.processes.garbage_collection import collect_before_serving
from orchestrator.processes.loop_delay import LoopDelay
from orchestrator.processes.ports import Address, open_port, private_port
from orchestrator.processes.rule_notices import RULES_CHANNEL, forget_rules, rule_notices
from orchestrator.processes.stop_request import StopRequest, services_until
from orchestrator.settings import Settings
from orchestrator.transform.result_jobs import STORE
from orchestrator.uploads.background_formats import UPLOAD_FORMATS
from orchestrator.uploads.resizer import UPLOAD_RESIZE
from orchestrator.web.health_routes import Check, HealthRoutes, MetricsRoute
from orchestrator.web.routes import build_worker_app

log = logging.getLogger(__name__)
_HOOKS_AT_ONCE = 2
_RESULTS_AT_ONCE = 8
_HOOK_RETRY_S = 1.0
_HOOK_LOOK_S = 0.1


def build_worker(services: Services, *, on_converted: Callable[[], None] | None = None) -> Worker:
    """Build the worker of this process. Draining it takes up to `server.drain_s`.

    With `on_converted` the worker also converts registered assets, and calls it after each. Only a
    housekeeping process does: it can read the files of the served folder.
    """
    pipeline, assets = services.pipeline, services.catalog.assets
    max_attempts = services.settings.jobs.max_attempts
    permit = services.origins.fetcher.check_permitted
    claims = services.catalog.claims
    ingest = IngestHandler(assets, pipeline.runner, max_attempts, permit, claims.record_fetched)
    handlers: dict[str, Handler] = {INGEST: ingest}
    handlers[BULK] = BulkHandler(
        selections=services.catalog.selections,
        bulk_jobs=services.catalog.bulk_jobs,
        editor=pipeline.editor,
        submitter=services.submitter,
        notify_batches=bool(services.settings.ingest.batch_webhook_url),
    )
    options = WorkerOptions.of(services.settings)
    if on_converted is not None:
        handlers[CONVERT] = ConvertHandler(
            assets, pipeline.converter, pipeline.reingester, max_attempts, on_converted
        )
    return make_worker(services, handlers, options)


def make_worker(
    services: Services,
    handlers: Mapping[str, Handler],
    options: WorkerOptions,
    *,
    closed_s: Callable[[], float] = lambda: 0.0,
) -> Worker:
    """A worker of this installation for these kinds of jobs; see `Worker`."""
    return Worker(
        services.catalog.claims,
        handlers,
        options,
        DeadWorkers(services.settings.data_dir / "run" / "workers"),
        closed_s=closed_s,
        tracing=services.tracing,
    )


def build_hook_workers(services: Services) -> list[Worker]:
    """Build a worker for each kind of hook that is configured: an outage of one system does not
    delay the calls of another one, nor any ingest.
    """
    settings = services.settings.ingest
    handler = HookHandler(
        settings, services.catalog.assets, services.submitter, services.source_warmer.orchestrate
    )
    options = replace(
        WorkerOptions.of(services.settings),
        slots=_HOOKS_AT_ONCE,
        max_attempts=settings.after_tries,
        retry_first_s=_HOOK_RETRY_S,
    )
    return [make_worker(services, {kind: handler}, options) for kind in services.hook_jobs.kinds]


def build_picture_workers(services: Services) -> list[Worker]:
    """Build the worker that stores the results of /ico beside their originals, and the versions of
    uploads in further formats; none if neither is configured. It has slots of its own, so that no
    ingest delays it.
    """
    handlers: dict[str, Handler] = {}
    if services.transformer is not None:
        handlers[STORE] = services.transformer.write_back
    if services.uploads is not None:
        handlers[UPLOAD_FORMATS] = services.uploads.formats
        handlers[UPLOAD_RESIZE] = services.uploads.resizer
    if not handlers:
        return []
    options = replace(
        WorkerOptions.of(services.settings), slots=_RESULTS_AT_ONCE, retry_first_s=_HOOK_RETRY_S
    )
    return [make_worker(services, handlers, options)]


def build_pyramid_workers(services: Services) -> list[Worker]:
    """Build the workers that make and remove the pyramids of a bucket; none if no bucket is
    configured. While as many pyramids are made as may be, as many originals again are fetched or
    pyramids stored. What is removed does not wait for the window.
    """
    pyramids = services.pyramids
    if pyramids is None:
        return []
    options = pyramid_worker_options(services)
    making = {PYRAMID: pyramids.handlers[PYRAMID]}
    removing = {PYRAMID_REMOVAL: pyramids.handlers[PYRAMID_REMOVAL]}
    return [
        make_worker(services, making, options, closed_s=pyramids.window.closed_s),
        make_worker(services, removing, options),
    ]


def pyramid_worker_options(services: Services) -> WorkerOptions:
    """The options of the workers that make pyramids, if a bucket is configured."""
    at_once = 0 if services.pyramids is None else services.pyramids.at_once
    slots = 2 * at_once + 1
    return replace(WorkerOptions.of(services.settings), slots=slots, per_customer=slots)


def pyramid_loops(services: Services) -> list[Loop]:
    """The loops of the events and of the window of pyramids; none if no bucket is configured."""
    pyramids = services.pyramids
    if pyramids is None:
        return []
    loops = [Loop("pyramid_window", pyramids.window_keeper.run)]
    if pyramids.receiver is not None:
        loops.append(Loop("events", pyramids.receiver.run))
    return loops


def build_side_workers(services: Services) -> list[Worker]:
    """Build the workers that have slots of their own beside that of ingests."""
    return [
        *build_hook_workers(services),
        *build_picture_workers(services),
        *build_pyramid_workers(services),
    ]


async def run_new_hooks(services: Services) -> None:
    """Run the hooks of the changes that this process has made, for commands: perhaps no server
    runs. What is not done in the time of all attempts is left to the next server.
    """
    settings = services.settings.ingest
    running = [
        asyncio.create_task(each.run())  # no TaskGroup: they are cancelled, and waited for, below
        for each in build_hook_workers(services)
    ]
    try:
        with suppress(TimeoutError, Unavailable):
            async with asyncio.timeout(settings.after_tries * settings.after_timeout_s):
                due_s: float | None = 0.0
                while due_s is not None:
                    await asyncio.sleep(_HOOK_LOOK_S)
                    due_s = await services.catalog.claims.next_due_s(services.hook_jobs.kinds)
    finally:
        for task in running:
            task.cancel()  # hooks in progress are finished
        await asyncio.wait(running)


def worker_loops(services: Services, worker: Worker) -> list[Loop]:
    """The loop of the worker, with SQS that of the receiver of its messages, and those of the
    events and the window of pyramids.
    """
    loops = [Loop("jobs", worker.run)]
    if services.sqs is not None:
        receiver = SqsReceiver(services.sqs, services.catalog, draft_from_message, worker.wake)
        loops.append(Loop("sqs", receiver.run))
    return [*loops, *pyramid_loops(services)]


def sweeper_loops(services: Services) -> list[Loop]:
    """The loops of the sweepers. Any number of processes may run them."""
    return [
        Loop("ingest_sweep", build_ingest_sweeper(services).run),
        Loop("job_sweep", build_job_sweeper(services).run),
    ]


def build_job_sweeper(services: Services) -> JobSweeper:
    """Build the sweeper of jobs. Any number of processes may run one."""
    return JobSweeper(services.catalog, services.settings.jobs)


def build_ingest_sweeper(services: Services) -> Sweeper:
    """Build the sweeper of ingests. Any number of processes may run one. It submits a job for an
    ingest that never ended, once, unless the job of that ingest failed or was cancelled.
    """
    return Sweeper(
        services.catalog,
        services.pipeline.remover,
        services.settings.data_dir / "scratch",
        services.settings.ingest,
        conversions=services.pipeline.conversion_jobs,
        requeue=LostIngests(services.catalog.jobs, services.submitter),
    )


def run_worker(settings: Settings, port: int | None = None) -> None:
    """Run jobs until SIGTERM or SIGINT; `settings` name a database. With a `port`, answer /metrics
    and /health on it.
    """
    set_up_logging(settings.log.level)
    uvloop.run(_run(settings, port))


async def _run(settings: Settings, port: int | None) -> None:
    stop = StopRequest()
    async with services_until(stop, settings) as services, AsyncExitStack() as ports:
        if services is None:
            return
        collect_before_serving()
        if port is not None:
            await _open_port(ports, services, port)
        worker = build_worker(services)
        side_workers = build_side_workers(services)
        loops = [
            *worker_loops(services, worker),
            *sweeper_loops(services),
            *(Loop("jobs", each.run) for each in side_workers),
        ]
        await run_until_stopped(stop, services, [worker, *side_workers], loops)


async def run_until_stopped(
    stop: StopRequest, services: Services, workers: Sequence[Worker], loops: Sequence[Loop]
) -> None:
    """Run the loops, among them those of the workers, and the listener that wakes the workers,
    until SIGTERM or SIGINT. Running jobs are drained.
    """

    def on_notice(payload: str) -> None:
        for each in workers:
            each.on_notice(payload)

    listener = Listener(
        services.settings.database,
        {JOBS_CHANNEL: on_notice, RULES_CHANNEL: rule_notices(services)},
        on_lost=lambda: forget_rules(services),
        on_restored=lambda: on_notice(""),
        role="worker",
    )
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(keep_running(loop))
            for loop in (
                Loop("listener", listener.run),
                Loop("loop_delay", LoopDelay().run),
                *loops,
            )
        ]
        log.info("worker started", extra={"slots": WorkerOptions.of(services.settings).slots})
        await stop.received.wait()
        for task in running:
            task.cancel()
    log.info("worker ended")


async def _open_port(stack: AsyncExitStack, services: Services, number: int) -> None:
    port = private_port(services.settings, services.tracing)
    health = HealthRoutes({"catalogue": services.catalog.check, "queue": _queue_check(services)})
    app = build_worker_app(port.middleware, health, MetricsRoute())
    address = Address(services.settings.server.private_host, number)
    await open_port(stack, port, app, address, role="worker")


def _queue_check(services: Services) -> Check:
    async def check() -> str:
        try:
            await check_queue(services.catalog, services.sqs)
        except Unavailable as error:
            return error.public
        return ""

    return check
