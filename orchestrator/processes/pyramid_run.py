"""`pyramid run`: makes the pyramids that wait in the queue, once or until it is stopped, in a
process that does nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import uvloop

from orchestrator.app import Services
from orchestrator.catalog.jobs import Job
from orchestrator.catalog.pyramid_values import SourceObject
from orchestrator.errors import SettingsError, Superseded
from orchestrator.ingest.events.event_acceptance import KINDS, PYRAMID
from orchestrator.ingest.events.pyramid_services import PyramidServices
from orchestrator.jobs.worker_loop import Handler
from orchestrator.log import set_up_logging
from orchestrator.processes.background import Loop
from orchestrator.processes.stop_request import StopRequest, services_until
from orchestrator.processes.worker import (
    build_job_sweeper,
    build_pyramid_workers,
    make_worker,
    pyramid_loops,
    pyramid_worker_options,
    run_until_stopped,
)
from orchestrator.settings import Settings

log = logging.getLogger(__name__)
_LOOK_S = 0.1
_DRAIN_S = 3600.0
OnEnd = Callable[[str, str], None]
"""Called with the key of a source and "" or the reason why the attempt failed."""


@dataclass(slots=True)
class RunReport:
    """The result of one run: how many sources were attempted; of these, how many are done, were
    replaced by a later change, wait for another attempt, and failed, by stage.
    """

    attempted: int = 0
    done: int = 0
    skipped: int = 0
    waiting: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    """Key, stage, code and reason of each source that failed or waits for another attempt."""


def require_pyramids(services: Services) -> PyramidServices:
    """What makes pyramids of a bucket. Raises SettingsError if no bucket is configured."""
    if services.pyramids is None:
        raise SettingsError(
            "No buckets are configured. Set pyramids.source_bucket and pyramids.image_bucket."
        )
    return services.pyramids


async def run_once(services: Services, on_end: OnEnd = lambda _key, _reason: None) -> RunReport:
    """Receive the events that wait, then work until no job of pyramids is due, whether the window
    is open or not. Jobs that other processes run are left to them; those of processes that have
    died are taken over as soon as a due job waits for them. Raises SettingsError,
    CatalogUnavailable, QueueUnavailable.
    """
    pyramids = require_pyramids(services)
    if pyramids.receiver is not None:
        while await pyramids.receiver.receive(0):
            pass
    claims = services.catalog.claims
    sweeper = build_job_sweeper(services)
    await sweeper.sweep()
    await services.catalog.due_times.delay([PYRAMID], 0)
    outcomes = _Outcomes(on_end)
    handlers = {kind: outcomes.record(each) for kind, each in pyramids.handlers.items()}
    options = replace(pyramid_worker_options(services), drain_s=_DRAIN_S)
    due_s: float | None = 0.0
    while due_s is not None and due_s <= 0:
        worker = make_worker(services, handlers, options)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(worker.run())
            # A due job waits while another one of its asset is claimed. If that worker has died,
            # the claim ends only when it is swept, and no other process may be there to do so.
            sweeping = tasks.create_task(sweeper.run())
            while (due_s is not None and due_s <= 0) or outcomes.running:
                await asyncio.sleep(_LOOK_S)
                due_s = await claims.next_due_s(KINDS)
            sweeping.cancel()
            running.cancel()
        due_s = await claims.next_due_s(KINDS)  # a claim may have been released
    return await _report(services, outcomes)


def run_watch(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, in the window; `settings` name a database."""
    set_up_logging(settings.log.level)
    uvloop.run(_watch(settings))


class _Outcomes:
    """The last outcome of each source that this process attempted: None, or the error."""

    def __init__(self, on_end: OnEnd) -> None:
        self.by_source: dict[SourceObject, Exception | None] = {}
        self.running = 0
        self._on_end = on_end

    def record(self, handle: Handler) -> Handler:
        """The handler, which also records how it ends."""

        async def run(job: Job) -> None:
            source = SourceObject(job.payload["bucket"], job.payload["key"])
            self.running += 1
            try:
                await handle(job)
            except Superseded as error:
                # The job of the later change has an outcome of its own, perhaps before this one.
                self.by_source.setdefault(source, error)
                self._on_end(source.key, str(error))
                raise
            except Exception as error:  # counted, then raised to the worker loop
                self.by_source[source] = error
                self._on_end(source.key, str(error))
                raise
            else:
                self.by_source[source] = None
                self._on_end(source.key, "")
            finally:
                self.running -= 1

        return run


async def _report(services: Services, outcomes: _Outcomes) -> RunReport:
    report = RunReport(attempted=len(outcomes.by_source))
    for place, error in outcomes.by_source.items():
        if error is None:
            report.done += 1
            continue
        if isinstance(error, Superseded):
            report.skipped += 1
            continue
        source = await services.catalog.pyramids.get(place)
        fault = source.fault if source is not None else None
        if source is None or fault is None or source.state not in ("queued", "failed"):
            report.done += 1  # by another process since
            continue
        if source.state == "queued":
            report.waiting += 1
        else:
            report.failed[fault.stage] = report.failed.get(fault.stage, 0) + 1
        fields = asdict(fault)
        report.failures.append(
            {"key": place.key, "state": source.state}
            | {name: fields[name] for name in ("stage", "code", "detail")}
        )
    return report


async def _watch(settings: Settings) -> None:
    stop = StopRequest()
    async with services_until(stop, settings) as services:
        if services is None:
            return
        require_pyramids(services)
        workers = build_pyramid_workers(services)
        loops = [
            Loop("job_sweep", build_job_sweeper(services).run),
            *pyramid_loops(services),
            *(Loop("jobs", each.run) for each in workers),
        ]
        await run_until_stopped(stop, services, workers, loops)
