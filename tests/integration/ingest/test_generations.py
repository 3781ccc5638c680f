"""Requests for the same assets, in random order and with workers that die: the last accepted change
always wins, and what lost is reported as superseded.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator.catalog.batches import BatchDraft
from orchestrator.catalog.jobs import INGEST, LANES, Job, JobDraft
from orchestrator.errors import Conflict, Superseded
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.job_handler import IngestHandler, LostIngests
from orchestrator.ingest.payload.decoding import Payload, encode
from orchestrator.ingest.register import Request, build_draft
from orchestrator.jobs.running_jobs import RunningJob
from orchestrator.jobs.settler import Settler
from orchestrator.jobs.worker_options import WorkerOptions
from orchestrator.model import AssetId, AssetState
from orchestrator.settings import Imaging
from tests.support import pictures
from tests.support.ingesting import IngestSystem, open_ingest_system, settings_for
from tests.support.patience import patience
from tests.support.simulated_kill import ProcessKilled

NAMES = ("a", "b")
SIZES = ((60, 40), (40, 60), (50, 50))
ROLES = (None, (), ("staff",), ("staff", "reader"))
names, sizes, roles = (some.sampled_from(each) for each in (NAMES, SIZES, ROLES))
_spaces = itertools.count(1)


@dataclass
class Expected:
    """What the last accepted changes of an asset ask for."""

    size: tuple[int, int]
    roles: tuple[str, ...] = ()
    is_cancelled: bool = False


class Running:
    """An ingest in progress: it stops before its first object until it is released or killed."""

    def __init__(self, asset: AssetId) -> None:
        self.asset = asset
        self.stopped = asyncio.Event()
        self.released = asyncio.Event()
        self.is_killed = False
        self.task: asyncio.Task[Any] | None = None

    async def before_put(self) -> None:
        self.stopped.set()
        await self.released.wait()
        if self.is_killed:
            raise ProcessKilled


class GenerationMachine(RuleBasedStateMachine):
    """Two assets of a new space, their jobs, and the ingests in progress."""

    loop: asyncio.AbstractEventLoop
    system: IngestSystem
    origins: dict[tuple[int, int], Path]

    def __init__(self) -> None:
        super().__init__()
        self.space = next(_spaces)
        self.expected: dict[str, Expected] = {}
        self.running: list[Running] = []
        self.jobs: list[int] = []
        self.claims = 0
        self.system.store.before_put = self._before_put

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def id_of(self, name: str) -> AssetId:
        return AssetId(1, self.space, name)

    async def _before_put(self, key: str) -> None:
        for each in self.running:
            if each.task is asyncio.current_task():
                await each.before_put()

    # --- accepted requests --------------------------------------------------------------------

    @rule(name=names, size=sizes, wanted=roles)
    def put(self, name: str, size: tuple[int, int], wanted: Any) -> None:
        """The client waits for the ingest."""
        runner = self.system.pipeline.runner

        async def accept() -> None:
            request = Request(self.id_of(name), str(self.origins[size]), roles=wanted)
            asset = await runner.accept(request)
            await self.system.pipeline.editor.narrow(asset.id, asset.ingest_generation)
            self._accepted(name, size, wanted)

            async def ingest() -> None:
                with suppress(Superseded, ProcessKilled):
                    await runner.run(asset.id, asset.ingest_generation)

            await self._start(asset.id, ingest())

        self.run(accept())

    @rule(chosen=some.sets(names, min_size=1), size=sizes, wanted=roles)
    def batch(self, chosen: set[str], size: tuple[int, int], wanted: Any) -> None:
        """The ingests wait in the queue."""

        async def post() -> None:
            recorded = await self.system.submitter.submit(
                [self._draft(name, size, wanted) for name in sorted(chosen)], BatchDraft(1)
            )
            self.jobs += recorded.ids
            for name in chosen:
                self._accepted(name, size, wanted)
                asset = await self.system.catalog.assets.get(self.id_of(name))
                assert asset is not None
                await self.system.pipeline.editor.narrow(asset.id, asset.ingest_generation)

        self.run(post())

    @rule(name=names, wanted=roles)
    def patch(self, name: str, wanted: Any) -> None:
        """Rights alone."""
        if wanted is None or name not in self.expected:
            return
        self.run(self.system.pipeline.editor.set_access(self.id_of(name), roles=wanted))
        self.expected[name].roles = wanted

    @rule(name=names)
    def delete(self, name: str) -> None:
        """The asset and everything that waits for it."""
        if self.expected.pop(name, None) is not None:
            self.run(self.system.pipeline.editor.delete(self.id_of(name)))

    @precondition(lambda self: self.jobs)
    @rule(which=some.integers(0, 99))
    def cancel(self, which: int) -> None:
        """A queued or running job."""

        async def cancel() -> None:
            job = await self.system.submitter.cancel(self.jobs[which % len(self.jobs)])
            name = AssetId.parse(job.asset).name
            asset = await self.system.catalog.assets.get(self.id_of(name))
            assert asset is not None
            assert asset.state is not AssetState.INGESTING
            assert asset.roles == self.expected[name].roles or asset.roles
            self.expected[name].roles = asset.roles
            self.expected[name].is_cancelled = True

        with suppress(Conflict):
            self.run(cancel())

    @precondition(lambda self: self.jobs)
    @rule(which=some.integers(0, 99))
    def retry(self, which: int) -> None:
        """A cancelled job, unless a later request replaced it."""

        async def retry() -> None:
            job = await self.system.submitter.retry(self.jobs[which % len(self.jobs)])
            name = AssetId.parse(job.asset).name
            asset = await self.system.catalog.assets.get(self.id_of(name))
            assert asset is not None
            assert asset.ingest_generation == job.generation
            assert asset.requested is not None
            size = next(s for s in SIZES if str(self.origins[s]) == asset.requested.origin)
            self.expected[name] = Expected(size, asset.requested.roles)

        with suppress(Conflict):
            self.run(retry())

    # --- workers ------------------------------------------------------------------------------

    @rule()
    def work(self) -> None:
        """A worker claims a job."""
        self.run(self._work())

    @precondition(lambda self: self.running)
    @rule()
    def finish_oldest(self) -> None:
        """The asset whose ingest began first is finished."""
        self.run(self._finish(self.running[0]))

    @precondition(lambda self: self.running)
    @rule()
    def workers_die(self) -> None:
        """The jobs of all workers are claimed by others."""

        async def die() -> None:
            for each in self.running:
                each.is_killed = True
            await self._finish_all()
            await self.system.catalog.claims.recover(0, 1000)

        self.run(die())

    async def _work(self) -> bool:
        self.claims += 1
        catalog = self.system.catalog
        job = await catalog.claims.claim(f"w{self.claims}", [INGEST], LANES, 99)
        if job is None:
            return False
        handler = IngestHandler(
            catalog.assets,
            self.system.pipeline.runner,
            1000,
            lambda origin: None,
            catalog.claims.record_fetched,
        )

        async def handle(job: Job) -> None:
            settler = Settler(catalog.claims, WorkerOptions(retry_first_s=0, max_attempts=1000))
            try:
                await handler(job)
            except ProcessKilled:
                return
            except Exception as error:  # as the worker: any failure is an outcome
                await settler.settle_failed(RunningJob(job), error)
            else:
                await settler.settle_done(RunningJob(job))

        await self._start(AssetId.parse(job.asset), handle(job))
        return True

    async def _start(self, asset: AssetId, work: Any) -> None:
        running = Running(asset)
        is_first = all(each.asset != asset for each in self.running)
        self.running.append(running)
        running.task = asyncio.create_task(work)
        if is_first:  # the others wait for its lock
            stopped = asyncio.create_task(running.stopped.wait())
            await asyncio.wait(
                [stopped, running.task], return_when=asyncio.FIRST_COMPLETED, timeout=60
            )
            stopped.cancel()

    async def _finish(self, running: Running) -> None:
        """Finish it with all other work for its asset: which one gets the lock next is chance."""
        same = [each for each in self.running if each.asset == running.asset]
        for each in same:
            each.released.set()
        async with asyncio.timeout(60 * patience()):
            await asyncio.gather(*(each.task for each in same if each.task is not None))
        self.running = [each for each in self.running if each not in same]

    async def _finish_all(self) -> None:
        while self.running:
            await self._finish(self.running[0])

    # --- what must hold -----------------------------------------------------------------------

    @invariant()
    def rights_are_those_of_the_last_accepted_change(self) -> None:
        for name in NAMES:
            asset = self.run(self.system.catalog.assets.get(self.id_of(name)))
            expected = self.expected.get(name)
            assert (asset is None) == (expected is None)
            if asset is None or expected is None:
                continue
            assert asset.as_requested().roles == expected.roles
            if expected.roles:
                assert asset.roles  # it is not public while new pixels are made
            if not asset.is_pending:
                assert asset.roles == expected.roles

    def teardown(self) -> None:
        self.run(self._end())

    async def _end(self) -> None:
        await self._finish_all()
        await self.system.catalog.claims.recover(0, 1000)
        lost = LostIngests(self.system.catalog.jobs, self.system.submitter)
        await self.system.sweep(lost)  # of clients whose process died
        while await self._work():
            await self._finish_all()
        await self.system.sweep(lost)
        for name, expected in self.expected.items():
            asset = await self.system.catalog.assets.get(self.id_of(name))
            assert asset is not None
            assert asset.roles == expected.roles
            if expected.is_cancelled:
                continue
            assert (asset.state, asset.dimensions) == (AssetState.READY, expected.size)
        await self.system.assert_exact()
        await self._check_jobs()

    async def _check_jobs(self) -> None:
        for number in self.jobs:
            job = await self.system.catalog.jobs.get(number)
            assert job is not None
            assert job.state in ("done", "superseded", "cancelled")
            if job.state == "superseded":
                assert job.fault is not None
                assert job.fault.code == "superseded"
        for batch in await self.system.catalog.batches.page(1000):
            assert batch.remaining == 0
            assert batch.finished is not None

    def _accepted(self, name: str, size: tuple[int, int], wanted: Any) -> None:
        before = self.expected.get(name)
        known = before.roles if before else ()
        self.expected[name] = Expected(size, known if wanted is None else wanted)

    def _draft(self, name: str, size: tuple[int, int], wanted: Any) -> JobDraft:
        request = Request(self.id_of(name), str(self.origins[size]), roles=wanted)
        return JobDraft(
            INGEST,
            encode(Payload(request)),
            1,
            asset=str(request.id),
            request=build_draft(request),
        )


def run_machine(dsn: str, folder: Path, examples: int, steps: int) -> None:
    loop = asyncio.new_event_loop()

    async def use(machine: type[GenerationMachine]) -> None:
        imaging = ImagingPool(Imaging(processes=1))
        async with open_ingest_system(settings_for(dsn, folder / "data"), imaging) as system:
            await system.catalog.customers.ensure(1, "main")
            machine.system = system
            machine.origins = {
                size: pictures.jpeg(system.pictures / f"{size[0]}x{size[1]}.jpg", *size)
                for size in SIZES
            }
            yielded.set()
            await ended.wait()
        await imaging.close()

    yielded, ended = asyncio.Event(), asyncio.Event()
    GenerationMachine.loop = loop
    try:
        parts = loop.create_task(use(GenerationMachine))
        waiting = loop.create_task(yielded.wait())
        loop.run_until_complete(asyncio.wait([parts, waiting], return_when=asyncio.FIRST_COMPLETED))
        assert yielded.is_set(), parts.exception()
        run_state_machine_as_test(
            GenerationMachine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        ended.set()
        loop.run_until_complete(parts)
        loop.close()


def test_the_last_accepted_change_wins_in_any_order(dsn_of_machine: str, tmp_path: Path) -> None:
    run_machine(dsn_of_machine, tmp_path, examples=6, steps=14)


@pytest.mark.soak
def test_the_last_accepted_change_wins_in_very_many_orders(
    dsn_of_machine: str, tmp_path: Path
) -> None:
    run_machine(dsn_of_machine, tmp_path, examples=400, steps=40)
