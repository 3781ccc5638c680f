"""The sweeper, the queue's own schema, and messages of strangers that hold ingest payloads."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment
from pgqueuer.adapters.persistence.queries import Queries

from orchestrator import metrics
from orchestrator.catalog.batches import BatchDraft
from orchestrator.catalog.jobs import INGEST, LANES
from orchestrator.errors import CatalogUnavailable
from orchestrator.ingest.job_handler import intake
from orchestrator.jobs.pgqueuer import schema
from orchestrator.settings import Database
from tests.support.jobs import KIND, LEASES, Doing, Shop, drafts, running


async def test_the_migrated_schema_is_what_the_installed_pgqueuer_declares(
    shop: Shop, database: Database
) -> None:
    connection = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        queries = Queries(AsyncpgDriver(connection), QueryBuilderEnvironment(schema()))
        plan = await queries.plan_upgrade()
    finally:
        await connection.close()
    assert list(plan.statements) == []


async def test_names_of_the_environment_do_not_lead_pgqueuer_astray(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PGQUEUER_PREFIX", "QUEUE_TABLE", "PGQUEUER_SCHEMA", "PGQUEUER_CHANNEL"):
        monkeypatch.setenv(name, "elsewhere")
    assert schema().qualified.queue_table == "pgqueuer"
    assert schema().channel == "ch_pgqueuer"


async def test_jobs_of_a_silent_worker_are_begun_again(either: Shop) -> None:
    recorded = await either.submitter.submit(drafts(3), BatchDraft(1))
    for _ in recorded.ids:
        assert await either.catalog.claims.claim("dead", [KIND], LANES, 9) is not None
    async with running(either.sweeper().run()), either.working(Doing()):
        jobs = await either.ended(recorded.ids)
    assert {(job.state, job.attempts) for job in jobs} == {("done", 2)}


async def test_a_job_that_kills_every_worker_is_given_up(shop: Shop) -> None:
    recorded = await shop.submitter.submit(drafts(1), BatchDraft(1))
    sweeper = shop.sweeper()
    before = metrics.JOB_DEAD_LETTERS.labels("worker_lost")._value.get()
    for _ in range(shop.settings.jobs.max_attempts):
        assert await shop.catalog.claims.claim("dead", [KIND], LANES, 9) is not None
        await asyncio.sleep(LEASES["lease_s"] + 0.1)
        await sweeper.round()
    [job] = await shop.ended(recorded.ids)
    assert job.fault is not None
    assert (job.state, job.fault.code) == ("failed", "worker_lost")
    assert metrics.JOB_DEAD_LETTERS.labels("worker_lost")._value.get() == before + 1


async def test_after_an_outage_workers_get_time_to_say_that_they_live(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.submitter.submit(drafts(1))
    await shop.catalog.claims.claim("slow", [KIND], LANES, 9)
    await asyncio.sleep(LEASES["lease_s"] + 0.1)
    sweeper = shop.sweeper(every_s=0.01)
    depths = shop.catalog.claims.depths
    was_away = asyncio.Event()

    async def away() -> list[object]:
        if was_away.is_set():
            return await depths()  # type: ignore[return-value]
        was_away.set()
        raise CatalogUnavailable("The catalogue does not answer.")

    monkeypatch.setattr(shop.catalog.claims, "depths", away)
    async with running(sweeper.run()):
        await was_away.wait()
        await asyncio.sleep(0.2)
        assert (await shop.job(1)).state == "running"
        await shop.until([1], lambda job: job.state == "queued", 5)


async def test_of_several_sweepers_one_sweeps(shop: Shop) -> None:
    async with shop.catalog.transaction() as connection:
        await shop.catalog.jobs.record(connection, drafts(250))
    await asyncio.gather(*(shop.sweeper().round() for _ in range(3)))
    async with shop.catalog.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM pgqueuer") == 250


async def test_figures_tell_what_waits(shop: Shop) -> None:
    await shop.submitter.submit([*drafts(3), *drafts(2, lane="priority")])
    await shop.catalog.claims.claim("w", [KIND], LANES, 9)
    await shop.sweeper().round()

    def figure(lane: str, state: str) -> float:
        return float(metrics.JOBS.labels(lane, state)._value.get())

    assert (figure("normal", "queued"), figure("priority", "queued")) == (3, 1)
    assert (figure("priority", "running"), figure("normal", "failed")) == (1, 0)
    assert metrics.JOB_QUEUE_AGE.labels("normal")._value.get() > 0


async def test_cleaning_forgets_what_ended_and_the_queues_log(shop: Shop) -> None:
    async with shop.working(Doing()):
        recorded = await shop.submitter.submit(drafts(3), BatchDraft(1))
        alone = await shop.submitter.submit(drafts(2))
        await shop.ended([*recorded.ids, *alone.ids])
    async with shop.catalog.connection() as connection:
        for query in (
            "UPDATE jobs SET finished = finished - interval '31 days'",
            "UPDATE batches SET finished = finished - interval '31 days'",
            "UPDATE pgqueuer_log SET created = created - interval '2 hours'",
        ):
            await connection.execute(query)
        await shop.sweeper().clean()
        assert await connection.fetchval("SELECT count(*) FROM pgqueuer_log") == 0
    assert await shop.catalog.jobs.page() == await shop.catalog.batches.page() == []


async def test_the_queues_log_is_forgotten_in_pieces(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.jobs.pgqueuer._TIDY_AT_ONCE", 2)
    async with shop.catalog.connection() as connection:
        await connection.execute(
            """INSERT INTO pgqueuer_log (created, job_id, status, priority, entrypoint)
               SELECT now() - make_interval(hours => n), n, 'successful', 1, 'normal'
               FROM generate_series(0, 5) AS n"""
        )
        await shop.queue.tidy()
        assert await connection.fetchval("SELECT array_agg(job_id) FROM pgqueuer_log") == [0]


async def test_cleaning_that_fails_is_not_tried_with_every_round(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    async def broken() -> None:
        nonlocal tried
        tried += 1
        raise CatalogUnavailable("The query took too long.")

    monkeypatch.setattr(shop.queue, "tidy", broken)
    sweeper = shop.sweeper()
    with pytest.raises(CatalogUnavailable):
        await sweeper.round()
    await sweeper.round()
    assert tried == 1


PLAIN = {"id": "7/2/page", "origin": "https://images.example/page.tif"}
MESSAGES = {
    "plain": json.dumps(PLAIN),
    "enveloped": json.dumps({"TopicArn": "t", "Message": json.dumps(PLAIN)}),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_strangers_payload_is_understood(name: str) -> None:
    draft = intake(MESSAGES[name].encode())
    assert (draft.kind, draft.customer, draft.host) == (INGEST, 7, "images.example")
    assert draft.asset == "7/2/page"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\0", b"[]", b"[" * 100_000], ids=range(5))
def test_what_cannot_be_understood_is_kept_for_its_fault(body: bytes) -> None:
    draft = intake(body)
    assert list(draft.payload) == ["unreadable"]
    assert "\0" not in draft.payload["unreadable"]
