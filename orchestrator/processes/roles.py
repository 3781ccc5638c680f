"""One process of `orchestrator serve`: opens the services and runs the roles of the process.

A process has the serve role (the public port), the housekeeping role, or both (`all`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Literal

import uvloop

from orchestrator.app import Services
from orchestrator.catalog.asset_transaction import ASSETS_CHANNEL
from orchestrator.catalog.changes import change_notices
from orchestrator.catalog.ico_results import ICO_CHANNEL
from orchestrator.catalog.jobs import JOBS_CHANNEL
from orchestrator.catalog.listener import Listener
from orchestrator.jobs.worker_loop import Worker
from orchestrator.log import set_up_logging
from orchestrator.model import AssetId
from orchestrator.processes.background import Loop, keep_running
from orchestrator.processes.garbage_collection import collect_before_serving, exempt_from_collection
from orchestrator.processes.housekeeping import Housekeeping
from orchestrator.processes.loop_delay import LoopDelay
from orchestrator.processes.rule_notices import RULES_CHANNEL, forget_rules, rule_notices
from orchestrator.processes.serve import PublicServer
from orchestrator.processes.stop_request import StopRequest, services_until
from orchestrator.processes.worker import (
    build_side_workers,
    build_worker,
    worker_loops,
)
from orchestrator.settings import Settings

log = logging.getLogger(__name__)
Role = Literal["serve", "housekeeping", "all"]


def run_process(settings: Settings, role: Role, index: int) -> None:
    """Run one process of `serve` until SIGTERM or SIGINT; `settings` name a database."""
    set_up_logging(settings.log.level)
    uvloop.run(_run(settings, role, index))


async def _run(settings: Settings, role: Role, index: int) -> None:
    stop = StopRequest()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: None)
    # The serve processes divide the cores. The one process that converts may use all of them.
    share = 1 if role == "housekeeping" else settings.server.workers
    async with services_until(stop, settings, share=share) as services:
        if services is not None:
            await Process(services, role).run(stop.received)
    log.info("process ended", extra={"role": role, "index": index})


class Process:
    """The roles of one process, its worker, and the listener that reports changes of assets and
    queued jobs to them.
    """

    def __init__(self, services: Services, role: Role) -> None:
        self._services = services
        self._role = role
        self.roles: list[Housekeeping | PublicServer] = []
        self._workers: list[Worker] = []
        self._side_workers: list[Worker] = []
        if role != "serve":
            housekeeping = Housekeeping(services)
            self.roles.append(housekeeping)
            self._workers.append(build_worker(services, on_converted=housekeeping.on_converted))
            self._side_workers = build_side_workers(services)
        if role != "housekeeping":
            self.roles.append(PublicServer(services, shared=role == "serve"))

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, then drain: requests and jobs in progress are finished."""
        async with AsyncExitStack() as opened, asyncio.TaskGroup() as tasks:
            ports = [await opened.enter_async_context(AsyncExitStack()) for _ in self.roles]
            has_listener_started = asyncio.Event()
            listener = self.build_listener()
            # Sooner than its own test: what the process remembers is stale from now on.
            self._services.catalog.when_away(listener.disconnect)
            listen = Loop("listener", lambda: listener.run(has_listener_started))
            running = [tasks.create_task(keep_running(listen))]
            # Before any asset is read: each later change of it has a notice.
            await _wait_for_first(tasks, has_listener_started.wait(), stop.wait())
            collect_before_serving()
            for role, stack in zip(self.roles, ports, strict=True):
                loops = await role.open(stack)
                running += [tasks.create_task(keep_running(loop)) for loop in loops]
            working = [
                tasks.create_task(keep_running(loop))
                for worker in self._workers
                for loop in worker_loops(self._services, worker)
            ]
            working += [
                tasks.create_task(keep_running(Loop("jobs", worker.run)))
                for worker in self._side_workers
            ]
            exempt_from_collection()
            delay = Loop("loop_delay", LoopDelay().run)
            running.append(tasks.create_task(keep_running(delay)))
            await stop.wait()
            for task in working:
                task.cancel()  # the worker drains while the ports drain, all of them at once
            await asyncio.gather(*(stack.aclose() for stack in ports))
            for task in running:
                task.cancel()

    def build_listener(self) -> Listener:
        """Build the listener that reports changes and queued jobs to the roles and workers."""
        channels = {
            ASSETS_CHANNEL: change_notices(self._on_change, self._on_prefix, self._on_alias),
            RULES_CHANNEL: rule_notices(self._services),
            ICO_CHANNEL: self._on_purged,
        }
        if self._workers:
            channels[JOBS_CHANNEL] = self._on_job_notice
        return Listener(
            self._services.settings.database,
            channels,
            on_lost=self._on_lost,
            on_restored=self._on_restored,
            role=self._role,
        )

    def _on_change(self, asset_id: AssetId, version: int) -> None:
        for role in self.roles:
            role.on_change(asset_id, version)

    def _on_prefix(self, prefix: str) -> None:
        for role in self.roles:
            role.on_prefix(prefix)

    def _on_alias(self, alias: str) -> None:
        for role in self.roles:
            role.on_alias(alias)

    def _on_purged(self, original: str) -> None:
        for role in self.roles:
            role.on_purged(original)

    def _on_lost(self) -> None:
        forget_rules(self._services)
        for role in self.roles:
            role.on_lost()

    def _on_restored(self) -> None:
        for role in self.roles:
            role.on_restored()
        self._wake_workers()

    def _on_job_notice(self, payload: str) -> None:
        for worker in (*self._workers, *self._side_workers):
            worker.on_notice(payload)

    def _wake_workers(self) -> None:
        for worker in (*self._workers, *self._side_workers):
            worker.wake()


async def _wait_for_first(tasks: asyncio.TaskGroup, *waits: Coroutine[Any, Any, object]) -> None:
    """Return when the first of `waits` has finished; the others are cancelled."""
    waiting = [tasks.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
