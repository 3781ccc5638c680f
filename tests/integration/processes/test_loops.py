"""Every background loop is started while what it needs is away, survives, and works when it is
back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from orchestrator.app import Services, open_services
from orchestrator.catalog.embedded.database import EmbeddedDatabase, embedded
from orchestrator.catalog.embedded.server import PostgresFolder
from orchestrator.processes.background import LOOPS, Loop, keep_running
from orchestrator.processes.housekeeping import Housekeeping
from orchestrator.processes.loop_delay import LoopDelay
from orchestrator.processes.roles import Process
from orchestrator.processes.serve import PublicServer
from orchestrator.processes.worker import build_worker, worker_loops
from orchestrator.settings import Jobs, Pyramids, Uploads, load
from tests.support.builders import an_asset
from tests.support.jobs import moto, sqs_client, sqs_settings
from tests.support.serve_process import free_port

FAILED = "background loop failed"
EVIDENCE = {
    "listener": "listen connection failed",
    "warm_up": "warm-up failed",
    "promotion": "promotion failed",
    "image_servers": "image server away",
    "folder": FAILED,
    "conversions": "conversions not counted",
    "scavenger": "cache not scavenged",
    "invalidation": "missed changes not read",
    "store_sweep": FAILED,
    "ingest_sweep": "ingest not swept",
    "upload_sweep": FAILED,
    "job_sweep": "jobs not swept",
    "jobs": "jobs not claimed",
    "sqs": "messages not received",
    "events": "events not received",
    "pyramid_window": "window not kept",
}
"""What each loop logs while what it needs is away: `FAILED` is logged by the supervisor."""
RECOVERED = {
    "listen connection restored",
    "conversions counted again",
    "cache scavenged again",
    "missed changes read again",
    "ingest swept again",
    "jobs swept again",
    "jobs claimed again",
    "messages received again",
    "events received again",
    "window kept again",
    "folder registered",
}


class Queue:
    """The SQS of the installation, which keeps its address when it is away."""

    def __init__(self) -> None:
        self.port = free_port()
        self._server = ExitStack()

    def settings(self) -> Jobs:
        """Those of its queues; they are created if it answers."""
        address = f"http://127.0.0.1:{self.port}"
        jobs = sqs_settings(address, "loops")
        client = sqs_client(address)
        client.create_queue(QueueName=f"{jobs.sqs_queue}-events")
        client.close()
        return jobs

    def start(self) -> None:
        """Start a server without messages."""
        self._server.enter_context(moto(self.port))
        self.settings()

    def kill(self) -> None:
        """End the server."""
        self._server.close()


@dataclass
class Installation:
    services: Services
    server: EmbeddedDatabase
    data: Path
    queue: Queue

    def paths(self) -> list[Path]:
        """The folders that cannot be used during the outage."""
        return [self.data / "objects", self.data / "cache" / "derivatives.index"]

    async def take_away(self) -> None:
        """Stop the database and SQS, and make the object store and a cache unusable."""
        await asyncio.to_thread(self.queue.kill)
        await asyncio.to_thread(PostgresFolder(self.data / "postgres").stop)
        for path in self.paths():
            path.mkdir(exist_ok=True)
            path.rename(path.with_name(path.name + ".away"))
            path.symlink_to(path)  # every use fails with ELOOP

    async def bring_back(self) -> None:
        for path in self.paths():
            path.unlink()
            path.with_name(path.name + ".away").rename(path)
        await asyncio.to_thread(self.queue.start)
        await asyncio.to_thread(self.server.revive)
        assert self.services.sqs is not None
        await self.services.sqs.announce([(1, "normal"), (2, "priority")])  # something to receive


@asynccontextmanager
async def installation(data: Path, folder: Path) -> AsyncIterator[Installation]:
    """An installation with a database of its own."""
    manager = embedded(data)
    server = await asyncio.to_thread(manager.__enter__)
    values = {
        "server.data_dir": data,
        "server.host": "127.0.0.1",
        "server.port": 0,
        "server.private_port": 0,
        "server.drain_s": 0,
        "database.dsn": server.dsn,
        "database.connect_timeout_s": 1,
        "database.query_timeout_s": 1,
        "ingest.folder": str(folder),
        "ingest.sweep_every_s": 0.5,
        "cache.use_flush_s": 0.1,
        "image_server.canary_s": 0.2,
        "promotion.idle_cores": 0,
        "image_server.special_addresses": ["http://127.0.0.1:1"],
    }
    queue = Queue()
    try:
        await asyncio.to_thread(queue.start)
        jobs = await asyncio.to_thread(queue.settings)
        pyramids = Pyramids(
            source_bucket="rbsc", image_bucket="images", sqs_queue=jobs.sqs_queue + "-events"
        )
        uploads = Uploads(
            backend="local",
            secrets=[SecretStr("secret")],
            incoming_folder=str(data / "incoming"),
            active_folder=str(data / "active"),
        )
        changes = {"jobs": jobs, "pyramids": pyramids, "uploads": uploads}
        settings = load(None, {}, values).model_copy(update=changes)
        async with open_services(settings) as services:
            yield Installation(services, server, data, queue)
    finally:
        await asyncio.to_thread(queue.kill)
        await asyncio.to_thread(manager.__exit__, None, None, None)


def events(caplog: pytest.LogCaptureFixture) -> set[tuple[str, str]]:
    """(event, loop) of all lines; `loop` only of those of the supervisor."""
    return {(record.message, str(vars(record).get("loop", ""))) for record in caplog.records}


def has_met_the_outage(name: str, caplog: pytest.LogCaptureFixture) -> bool:
    event = EVIDENCE[name]
    return (event, name if event == FAILED else "") in events(caplog)


async def until(condition: Any, what: str) -> None:
    for _ in range(1200):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within 60 s: {what}")


async def test_every_loop_survives_the_outage_of_what_it_needs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    needy = {kind.name for kind in LOOPS if kind.needs}
    assert set(EVIDENCE) == needy, "say how each loop meets an outage"
    caplog.set_level(logging.INFO)
    folder = tmp_path / "pictures"
    folder.mkdir()
    async with installation(tmp_path / "data", folder) as it, AsyncExitStack() as stack:
        services = it.services
        process = Process(services, "all")
        housekeeping, public = process.roles
        assert isinstance(housekeeping, Housekeeping)
        assert isinstance(public, PublicServer)
        worker = build_worker(services, on_converted=housekeeping.on_converted)
        loops = [
            Loop("listener", process.build_listener().run),
            Loop("loop_delay", LoopDelay().run),
            *await housekeeping.open(stack),
            *await public.open(stack),
            *worker_loops(services, worker),
        ]
        assert {loop.name for loop in loops} == {kind.name for kind in LOOPS}
        await it.take_away()
        tasks = [asyncio.create_task(keep_running(loop)) for loop in loops]
        housekeeping.on_converted()  # something to count
        public.warmer.enqueue(an_asset())
        public.promoter.enqueue(an_asset())
        for name in sorted(needy):
            await until(lambda n=name: has_met_the_outage(n, caplog), f"{name} failed")
        assert not [task for task in tasks if task.done()]
        caplog.clear()
        await it.bring_back()
        for event in RECOVERED:
            await until(lambda e=event: (e, "") in events(caplog), event)
        assert not [task for task in tasks if task.done()]
        assert not [record for record in caplog.records if record.levelname == "ERROR"]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
