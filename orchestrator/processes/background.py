"""The background loops of all processes: the list of them, and the supervisor that keeps each one
running.

A loop that fails is started again with back-off, whatever its failure was. It ends no process and
no other loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from orchestrator import metrics
from orchestrator.backoff import backoff_s
from orchestrator.errors import OrchestratorError
from orchestrator.fault_log import FaultLog

log = logging.getLogger(__name__)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 30.0
_SOUND_S = 60.0
"""A loop that runs this long after a failure is sound again."""


@dataclass(frozen=True, slots=True)
class LoopKind:
    """A line of the list: what a loop is called, where its code is, and what it needs."""

    name: str
    code: tuple[str, ...]
    """The functions that repeat without end, as `catalog/listener.py Listener.run`."""
    roles: tuple[str, ...]
    """The roles that run it; `all`: every process and command."""
    needs: tuple[str, ...]
    """What may be away while it runs."""


EVERY_ROLE = ("serve", "housekeeping", "worker")
LOOPS = (
    LoopKind("listener", ("catalog/listener.py Listener.run",), EVERY_ROLE, ("database",)),
    LoopKind("warm_up", ("routing/warmer.py SourceWarmer.run",), ("serve",), ("store",)),
    LoopKind(
        "promotion",
        ("routing/promotion/promoter.py Promoter._promote_waiting",),
        ("serve",),
        ("store", "disk"),
    ),
    LoopKind("loop_delay", ("processes/loop_delay.py LoopDelay.run",), EVERY_ROLE, ()),
    LoopKind(
        "image_servers",
        (
            "routing/image_servers/pool_client.py PoolClient._watch",
            "routing/image_servers/node_purge.py NodePurge.run",
        ),
        ("serve",),
        ("image server",),
    ),
    LoopKind(
        "folder",
        ("processes/served_folder.py ServedFolder.run",),
        ("housekeeping",),
        ("database", "folder"),
    ),
    LoopKind(
        "conversions",
        ("ingest/conversion_progress.py ConversionProgress.run",),
        ("housekeeping",),
        ("database",),
    ),
    LoopKind("scavenger", ("scavenger/scavenger.py Scavenger.run",), ("housekeeping",), ("disk",)),
    LoopKind(
        "invalidation",
        ("scavenger/invalidation.py Invalidator.run",),
        ("housekeeping",),
        ("database", "disk"),
    ),
    LoopKind(
        "store_sweep",
        ("processes/housekeeping.py Housekeeping._sweep_store",),
        ("housekeeping",),
        ("store",),
    ),
    LoopKind(
        "ingest_sweep",
        ("ingest/sweeper.py Sweeper.run",),
        ("housekeeping", "worker"),
        ("database", "store", "disk"),
    ),
    LoopKind(
        "upload_sweep",
        ("uploads/upload_sweeper.py UploadSweeper.run",),
        ("housekeeping",),
        ("database", "store"),
    ),
    LoopKind(
        "job_sweep",
        ("jobs/job_sweeper.py JobSweeper.run",),
        ("housekeeping", "worker"),
        ("database",),
    ),
    LoopKind(
        "jobs",
        ("jobs/worker_loop.py Worker._claim_jobs", "jobs/running_jobs.py RunningJobs.keep_claims"),
        ("housekeeping", "worker"),
        ("database",),
    ),
    LoopKind(
        "sqs",
        ("jobs/sqs_queues.py SqsReceiver._receive",),
        ("housekeeping", "worker"),
        ("database", "queue"),
    ),
    LoopKind(
        "events",
        ("ingest/events/event_queue.py EventReceiver.run",),
        ("housekeeping", "worker"),
        ("database", "queue", "store"),
    ),
    LoopKind(
        "pyramid_window",
        ("ingest/events/pyramid_services.py WindowKeeper.run",),
        ("housekeeping", "worker"),
        ("database",),
    ),
)


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop to keep running; `run` ends only by a failure or when it is cancelled."""

    name: str
    run: Callable[[], Awaitable[None]]


async def keep_running(loop: Loop) -> None:
    """Run the loop until cancelled. After a failure it waits, longer each time, and starts it
    again.
    """
    event_loop = asyncio.get_running_loop()
    faults = FaultLog(log, "background loop failed", "background loop sound again")
    failures = 0

    def on_sound() -> None:
        nonlocal failures
        failures = 0
        faults.clear(loop=loop.name)

    while True:
        sound = event_loop.call_later(_SOUND_S, on_sound)
        try:
            await loop.run()
        except Exception as error:  # a loop survives whatever happens in one round; logged
            expected = expected_fault(error)
            bug, reason = (error, "") if expected is None else (None, expected.public)
        else:
            bug, reason = None, "It ended by itself."
        finally:
            sound.cancel()
        failures += 1
        metrics.LOOP_FAILURES.labels(loop.name).inc()
        wait_s = backoff_s(failures, first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S)
        faults.report(bug=bug, loop=loop.name, reason=reason, retry_s=round(wait_s, 1))
        await asyncio.sleep(wait_s)


def expected_fault(error: BaseException) -> OrchestratorError | None:
    """The error if the product raised it on purpose; of a group of such errors the first one."""
    if isinstance(error, OrchestratorError):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = [expected_fault(each) for each in error.exceptions]
        return None if None in found else found[0]
    return None
