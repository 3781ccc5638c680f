"""Jobs for tests: drafts, the two forms of the queue, workers that log what they do.

Run as a module it is a worker to be killed: `python -m tests.support.jobs DSN LOG SECONDS`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.session import get_session
from pydantic import SecretStr

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import Job, JobDraft
from orchestrator.jobs.job_sweeper import JobSweeper
from orchestrator.jobs.queue import JobQueue
from orchestrator.jobs.queue_factory import open_queue
from orchestrator.jobs.settler import Pace
from orchestrator.jobs.submitter import Submitter
from orchestrator.jobs.worker_loop import Handler, Intake, Worker
from orchestrator.settings import Database, Jobs, Settings
from tests.support.serve_process import free_port

ROOT = Path(__file__).resolve().parents[2]
KIND = "test"
FAST = Pace(
    slots=4,
    per_host=100,
    heartbeat_s=0.2,
    retry_first_s=0.05,
    retry_longest_s=0.3,
    drain_s=5,
    look_s=0.5,
    pause_s=0.05,
)
KEYS = ("testing", "testing")


def a_draft(number: int = 0, **changes: Any) -> JobDraft:
    """A job of customer 1 without an origin host."""
    values: dict[str, Any] = {"kind": KIND, "payload": {"number": number}, "customer": 1}
    return JobDraft(**{**values, **changes})


def drafts(count: int, **changes: Any) -> list[JobDraft]:
    """So many of them, numbered from 0."""
    return [a_draft(number, **changes) for number in range(count)]


@contextmanager
def moto() -> Iterator[str]:
    """A server that speaks SQS; its address."""
    port = free_port()
    words = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        client = sqs_client(address)
        deadline = time.monotonic() + 60
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
    """A plain client, a stranger to us."""
    return get_session().create_client(
        "sqs",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id=KEYS[0],
        aws_secret_access_key=KEYS[1],
    )


def sqs_settings(address: str, name: str, **changes: Any) -> Jobs:
    """Settings of two queues of their own, which are made."""
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
class Shop:
    """Everything a test of jobs touches."""

    settings: Settings
    catalog: Catalog
    queue: JobQueue
    submitter: Submitter

    def worker(
        self, handler: Handler, pace: Pace = FAST, intake: Intake | None = None, kind: str = KIND
    ) -> Worker:
        """A worker for one kind of job."""
        return Worker(
            queue=self.queue,
            claims=self.catalog.claims,
            submitter=self.submitter,
            handlers={kind: handler},
            pace=pace,
            intake=intake,
        )

    def sweeper(self, every_s: float = 0.2) -> JobSweeper:
        """A sweeper that sweeps often."""
        return JobSweeper(
            self.catalog, self.submitter, self.queue, self.settings.jobs, every_s=every_s
        )

    @asynccontextmanager
    async def working(
        self, handler: Handler, pace: Pace = FAST, **more: Any
    ) -> AsyncIterator[asyncio.Task[None]]:
        """A worker at work; drained at the end."""
        async with running(self.worker(handler, pace, **more).run()) as task:
            yield task

    async def job(self, number: int) -> Job:
        """The job, which must be there."""
        found = await self.catalog.jobs.get(number)
        assert found is not None
        return found

    async def ended(self, ids: Sequence[int], within_s: float = 20) -> list[Job]:
        """The jobs, once all have ended."""
        over = ("done", "failed", "cancelled")
        return await self.until(ids, lambda job: job.state in over, within_s)

    async def until(
        self, ids: Sequence[int], is_so: Callable[[Job], bool], within_s: float = 20
    ) -> list[Job]:
        """The jobs, once all are so."""
        async with asyncio.timeout(within_s):
            while True:
                jobs = [await self.job(number) for number in ids]
                if all(is_so(job) for job in jobs):
                    return jobs
                await asyncio.sleep(0.02)


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[asyncio.Task[None]]:
    """A loop that runs meanwhile; cancelled, and waited for, at the end."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def open_shop(database: Database, jobs: Jobs) -> AsyncIterator[Shop]:
    """Everything open over a database that is migrated."""
    settings = Settings(database=database, jobs=jobs)
    catalog = await Catalog.open(database)
    try:
        await catalog.customers.ensure(1, "main")
        async with open_queue(settings, catalog) as queue:
            yield Shop(settings, catalog, queue, Submitter(catalog, queue))
    finally:
        await catalog.close()


@dataclass
class Doing:
    """A handler that remembers; `fail` may raise for a job."""

    seconds: float = 0.0
    fail: Callable[[Job], None] | None = None
    begun: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    now: int = 0
    most: int = 0

    async def __call__(self, job: Job) -> None:
        """Do the job."""
        self.begun.append(job.id)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
            if self.fail is not None:
                self.fail(job)
            self.ended.append(job.id)
        except asyncio.CancelledError:
            self.cancelled.append(job.id)
            raise
        finally:
            self.now -= 1


def a_worker_process(dsn: str, log: Path, seconds: float) -> subprocess.Popen[bytes]:
    """A worker, with its sweeper, in a process of its own; it appends a line to `log` for each job
    it begins (`+ID`) and has done (`-ID`).
    """
    words = [sys.executable, "-m", "tests.support.jobs", dsn, str(log), str(seconds)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Without any warning."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.wait()


LEASES = {"heartbeat_s": 0.2, "lease_s": 1.0}


async def _work(dsn: str, log: str, seconds: str) -> None:
    settings = Jobs(max_attempts=50, **LEASES)
    database = Database(dsn=SecretStr(dsn), connect_timeout_s=2, query_timeout_s=3)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def handle(job: Job) -> None:
        _line(log, f"+{job.id}")
        await asyncio.sleep(float(seconds))
        _line(log, f"-{job.id}")

    async with open_shop(database, settings) as shop:
        pace = Pace(slots=3, heartbeat_s=0.2, look_s=1, pause_s=0.1, max_attempts=50, per_host=100)
        async with running(shop.sweeper().run()), shop.working(handle, pace):
            await stop.wait()


def _line(log: str, text: str) -> None:
    with Path(log).open("a") as lines:
        lines.write(text + "\n")


if __name__ == "__main__":
    asyncio.run(_work(*sys.argv[1:]))
