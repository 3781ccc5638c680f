"""Events of the jobs of a batch in random order leave its counts exact."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from orchestrator.catalog.batches import BatchDraft
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import LANES, Job
from orchestrator.errors import Conflict, Fault
from orchestrator.settings import Database
from tests.support.jobs import KIND, drafts

JOBS = 6
MAX_ATTEMPTS = 3
FAULT = Fault("broken", "convert", retryable=True, detail="Broken.")


class BatchMachine(RuleBasedStateMachine):
    """One batch and several workers, some of which try to settle claims that they have lost."""

    database: Database
    loop: asyncio.AbstractEventLoop
    catalog: Catalog

    def __init__(self) -> None:
        super().__init__()
        self.claimed: list[Job] = []
        self.claims = 0
        self.finished = False
        recorded = self.run(self._record())
        self.batch, self.ids = recorded.batch or 0, recorded.ids

    def run(self, work):  # type: ignore[no-untyped-def]
        return self.loop.run_until_complete(work)

    async def _record(self):  # type: ignore[no-untyped-def]
        async with self.catalog.transaction() as connection:
            await connection.execute("DELETE FROM batches")
            return await self.catalog.jobs.record(connection, drafts(JOBS), BatchDraft(1))

    @rule()
    def claim(self) -> None:
        self.claims += 1
        job = self.run(self.catalog.claims.claim(f"w{self.claims}", [KIND], LANES, 99))
        if job is not None:
            self.claimed.append(job)

    @rule(which=some.integers(0, 50), how=some.sampled_from(["done", "fail", "postpone", "beat"]))
    def settle(self, which: int, how: str) -> None:
        if not self.claimed:
            return
        job = self.claimed[
            which % len(self.claimed)
        ]  # it stays in the list and may be settled again
        now = self.run(self.catalog.jobs.get(job.id))
        is_ours = now.state == "running" and now.worker == job.worker
        claims = self.catalog.claims
        if how == "beat":
            assert (job.id in self.run(claims.heartbeat([job]))) == is_ours
        elif how == "postpone":
            assert self.run(claims.postpone(job, 0, FAULT, is_counted=bool(which % 2))) == is_ours
        else:
            work = claims.complete(job) if how == "done" else claims.fail(job, FAULT)
            settled = self.run(work)
            assert settled.was_ours == is_ours
            assert not (settled.batch_finished and self.finished)

    @rule()
    def workers_fall_silent(self) -> None:
        self.run(self.catalog.claims.recover(0, MAX_ATTEMPTS))

    @rule(which=some.integers(0, JOBS - 1))
    def cancel(self, which: int) -> None:
        with suppress(Conflict):
            self.run(self.catalog.cancellations.cancel_job(self.ids[which]))

    @rule()
    def cancel_batch(self) -> None:
        self.run(self.catalog.cancellations.cancel_batch(self.batch))

    @rule(which=some.integers(0, JOBS - 1))
    def retry(self, which: int) -> None:
        with suppress(Conflict):
            self.run(self.catalog.retries.retry_job(self.ids[which]))

    @rule()
    def retry_batch(self) -> None:
        self.run(self.catalog.retries.retry_batch(self.batch))

    @invariant()
    def counts_are_exact(self) -> None:
        states = Counter(job.state for job in self.run(self.catalog.jobs.page(batch=self.batch)))
        batch = self.run(self.catalog.batches.get(self.batch))
        assert (batch.completed, batch.errors, batch.cancelled) == (
            states["done"],
            states["failed"],
            states["cancelled"],
        )
        assert batch.remaining == states["queued"] + states["running"]
        self.finished = batch.finished is not None
        assert self.finished == (batch.remaining == 0)


def test_the_counts_of_a_batch_stay_exact_in_any_order_of_events(database: Database) -> None:
    loop = asyncio.new_event_loop()
    try:
        catalog = loop.run_until_complete(Catalog.open(database))
        loop.run_until_complete(catalog.customers.ensure(1, "main"))
        BatchMachine.loop, BatchMachine.catalog = loop, catalog
        run_state_machine_as_test(
            BatchMachine,
            settings=settings(
                max_examples=40,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        loop.run_until_complete(catalog.close())
    finally:
        loop.close()
