"""Jobs for tests: drafts, a job system with or without SQS, handlers that record their calls.

Run as a module it is a worker that tests kill: `python -m tests.support.jobs DSN LOG SECONDS`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.session import get_session
from pydantic import SecretStr

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import JOBS_CHANNEL, Job, JobDraft
from orchestrator.catalog.listener import Listener
from orchestrator.errors import InvalidInput
from orchestrator.jobs.dead_workers import DeadWorkers
from orchestrator.jobs.job_sweeper import JobSweeper
from orchestrator.jobs.sqs_queues import DraftOf, SqsQueues, SqsReceiver, open_sqs
from orchestrator.jobs.submitter import Submitter
from orchestrator.jobs.worker_loop import Handler, Worker
from orchestrator.jobs.worker_options import WorkerOptions
from orchestrator.settings import Database, Jobs, Settings
from tests.support.patience import ANSWER_S, patience
from tests.support.serve_process import free_port

ROOT = Path(__file__).resolve().parents[2]
KIND = "test"
FAST = WorkerOptions(
    slots=4,
    per_host=100,
    heartbeat_s=0.2,
    retry_first_s=0.05,
    retry_longest_s=0.3,
    drain_s=5,
    look_s=0.5,
    blocked_s=0.05,
)
KEYS = ("testing", "testing")


def a_draft(number: int = 0, **changes: Any) -> JobDraft:
    """A draft of a job of customer 1 without an origin host."""
    values: dict[str, Any] = {"kind": KIND, "payload": {"number": number}, "customer": 1}
    return JobDraft(**{**values, **changes})


def drafts(count: int, **changes: Any) -> list[JobDraft]:
    """Drafts of `count` jobs, numbered from 0."""
    return [a_draft(number, **changes) for number in range(count)]


@contextmanager
def moto(port: int = 0) -> Iterator[str]:
    """Run a server with the SQS API on this port or a free one; its address."""
    port = port or free_port()
    words = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        client = sqs_client(address)
        deadline = time.monotonic() + 60 * patience()
        while True:
            with suppress(Exception):
                client.list_queues()
                break
            if time.monotonic() > deadline or process.poll() is not None:
                raise TimeoutError("no SQS server")
            time.sleep(0.1)
        client.close()
        yield address
    finally:
        process.kill()
        process.wait()


def sqs_client(address: str) -> Any:
    """An SQS client of another system."""
    return get_session().create_client(
        "sqs",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id=KEYS[0],
        aws_secret_access_key=KEYS[1],
    )


def sqs_settings(address: str, name: str, **changes: Any) -> Jobs:
    """Settings of two queues, which are created."""
    client = sqs_client(address)
    for lane in ("normal", "priority"):
        client.create_queue(QueueName=f"{name}-{lane}")
    client.close()
    return Jobs(
        kind="sqs",
        sqs_queue=f"{name}-normal",
        sqs_priority_queue=f"{name}-priority",
        sqs_endpoint=address,
        sqs_access_key=SecretStr(KEYS[0]),
        sqs_secret_key=SecretStr(KEYS[1]),
        **changes,
    )


@dataclass
class JobSystem:
    """Everything that a test of jobs uses."""

    settings: Settings
    catalog: Catalog
    sqs: SqsQueues | None
    submitter: Submitter

    def worker(
        self,
        handler: Handler,
        options: WorkerOptions = FAST,
        kind: str = KIND,
        folder: Path | None = None,
    ) -> Worker:
        """A worker for one kind of job, of the host that has this folder."""
        dead = None if folder is None else DeadWorkers(folder)
        return Worker(self.catalog.claims, {kind: handler}, options, dead)

    def receiver(
        self, draft_of: DraftOf | None = None, on_job: Callable[[], None] = lambda: None
    ) -> SqsReceiver:
        """A receiver of SQS messages."""
        assert self.sqs is not None
        return SqsReceiver(self.sqs, self.catalog, draft_of or _refuse, on_job)

    def sweeper(
        self,
        every_s: float = 0.2,
        *,
        lease_s: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> JobSweeper:
        """A sweeper that sweeps often, with the lease of the settings or another one."""
        jobs = self.settings.jobs
        if lease_s is not None:
            jobs = jobs.model_copy(update={"lease_s": lease_s})
        return JobSweeper(self.catalog, jobs, every_s=every_s, now=now)

    @asynccontextmanager
    async def working(
        self,
        handler: Handler,
        options: WorkerOptions = FAST,
        *,
        kind: str = KIND,
        draft_of: DraftOf | None = None,
        is_notified: bool = True,
        folder: Path | None = None,
    ) -> AsyncIterator[asyncio.Task[None]]:
        """A worker that works, drained at the end.

        It is woken by SQS alone where there is SQS, else by notices of the database, and by neither
        without `is_notified`.
        """
        worker = self.worker(handler, options, kind, folder)
        async with AsyncExitStack() as loops:
            if not is_notified:
                pass
            elif self.sqs is not None:
                await loops.enter_async_context(running(self.receiver(draft_of, worker.wake).run()))
            else:
                listening = asyncio.Event()
                channels = {JOBS_CHANNEL: worker.on_notice}
                listener = Listener(self.settings.database, channels, on_restored=worker.wake)
                await loops.enter_async_context(running(listener.run(listening)))
                await listening.wait()
            yield await loops.enter_async_context(running(worker.run()))

    async def job(self, number: int) -> Job:
        """The job, which must exist."""
        found = await self.catalog.jobs.get(number)
        assert found is not None
        return found

    async def ended(self, ids: Sequence[int], within_s: float = 20) -> list[Job]:
        """The jobs, once all have ended."""
        ends = ("done", "failed", "cancelled", "superseded")
        return await self.until(ids, lambda job: job.state in ends, within_s)

    async def until(
        self, ids: Sequence[int], condition: Callable[[Job], bool], within_s: float = 20
    ) -> list[Job]:
        """The jobs, once all meet the condition."""
        async with asyncio.timeout(within_s * patience()):
            while True:
                jobs = [await self.job(number) for number in ids]
                if all(condition(job) for job in jobs):
                    return jobs
                await asyncio.sleep(0.02)


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[asyncio.Task[None]]:
    """Run a loop during the block; it is cancelled, and waited for, at the end."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def open_job_system(database: Database, jobs: Jobs) -> AsyncIterator[JobSystem]:
    """Everything opened over a migrated database."""
    settings = Settings(database=database, jobs=jobs)
    catalog = await Catalog.open(database)
    try:
        await catalog.customers.ensure(1, "main")
        async with open_sqs(jobs) as sqs:
            yield JobSystem(settings, catalog, sqs, Submitter(catalog, sqs))
    finally:
        await catalog.close()


def _refuse(body: bytes) -> JobDraft:
    raise InvalidInput("The test expects no message of another system.")


@dataclass
class RecordingHandler:
    """A handler that records the ids it is called with; `fail` may raise for a job."""

    seconds: float = 0.0
    fail: Callable[[Job], None] | None = None
    started: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def __call__(self, job: Job) -> None:
        """Run the job."""
        self.started.append(job.id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.seconds)
            if self.fail is not None:
                self.fail(job)
            self.ended.append(job.id)
        except asyncio.CancelledError:
            self.cancelled.append(job.id)
            raise
        finally:
            self.at_once -= 1


def a_worker_process(dsn: str, log: Path, seconds: float) -> subprocess.Popen[bytes]:
    """Start a worker and a sweeper in a process of their own. It appends a line to `log` when a job
    starts (`+ID`) and when it has ended (`-ID`).
    """
    words = [sys.executable, "-m", "tests.support.jobs", dsn, str(log), str(seconds)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process with SIGKILL."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.wait()


LEASES = {"heartbeat_s": 0.2, "lease_s": 1.0 * patience()}


async def _work(dsn: str, log: str, seconds: str) -> None:
    settings = Jobs(max_attempts=50, **LEASES)
    database = Database(
        dsn=SecretStr(dsn), connect_timeout_s=5, query_timeout_s=15, answer_timeout_s=ANSWER_S
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def handle(job: Job) -> None:
        _line(log, f"+{job.id}")
        await asyncio.sleep(float(seconds))
        _line(log, f"-{job.id}")

    async with open_job_system(database, settings) as system:
        options = WorkerOptions(
            slots=3, heartbeat_s=0.2, look_s=1, blocked_s=0.1, max_attempts=50, per_host=100
        )
        folder = Path(log).with_suffix(".workers")
        async with (
            running(system.sweeper().run()),
            system.working(handle, options, folder=folder),
        ):
            await stop.wait()


def _line(log: str, text: str) -> None:
    with Path(log).open("a") as lines:
        lines.write(text + "\n")


if __name__ == "__main__":
    asyncio.run(_work(*sys.argv[1:]))
