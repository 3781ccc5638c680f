"""Waiting jobs of an installation with PgQueuer's tables run after the migration."""

from __future__ import annotations

import asyncpg
import pytest

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.migrator import migrate, migrations
from orchestrator.errors import Fault
from orchestrator.settings import Database, Jobs
from tests.support.jobs import FAST, KIND, RecordingHandler, a_draft, open_job_system

LAST_WITH_PGQUEUER = "0007_doomed"
FAULT = '{"code": "unprocessable", "stage": "convert", "retryable": false, "detail": "Broken."}'


async def install_with_pgqueuer(database: Database) -> None:
    """Write a database as the release with PgQueuer left it: migrated up to 7, with a batch of jobs
    in every state, announced in PgQueuer's tables, the last one not.
    """
    connection = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        await connection.execute(
            """CREATE TABLE migrations (name text PRIMARY KEY, digest text NOT NULL,
                   applied timestamptz NOT NULL DEFAULT now())"""
        )
        for name, text in migrations().items():
            if name > LAST_WITH_PGQUEUER:
                break
            await connection.execute(text)
            await connection.execute(
                """INSERT INTO migrations (name, digest)
                   VALUES ($1, encode(sha256(convert_to($2, 'UTF8')), 'hex'))""",
                name,
                text,
            )
        await connection.execute(
            f"""INSERT INTO customers (id, name) VALUES (1, 'main');
                INSERT INTO batches (customer, lane, count, completed, errors)
                    VALUES (1, 'normal', 6, 1, 1);
                INSERT INTO jobs (kind, lane, customer, batch, payload, state, attempts, worker,
                        heartbeat, fault, announced, started, finished, begun, dedupe)
                VALUES
                    ('{KIND}', 'normal', 1, 1, '{{"number": 1}}', 'queued', 0, '', NULL, NULL,
                        now(), NULL, NULL, NULL, NULL),
                    ('{KIND}', 'priority', 1, 1, '{{"number": 2}}', 'queued', 2, 'old', NULL,
                        '{FAULT}', now(), now(), NULL, now(), NULL),
                    ('{KIND}', 'normal', 1, 1, '{{"number": 3}}', 'running', 1, 'dead',
                        now() - interval '1 hour', NULL, now(), now(), NULL, now(), NULL),
                    ('{KIND}', 'normal', 1, 1, '{{"number": 4}}', 'failed', 1, 'old', now(),
                        '{FAULT}', now(), now(), now(), now(), NULL),
                    ('{KIND}', 'normal', 1, 1, '{{"number": 5}}', 'done', 1, 'old', now(),
                        NULL, now(), now(), now(), now(), NULL),
                    ('{KIND}', 'normal', 1, 1, '{{"number": 6}}', 'queued', 0, '', NULL, NULL,
                        NULL, NULL, NULL, NULL, 'message abc');
                INSERT INTO pgqueuer (priority, status, entrypoint, payload)
                VALUES (1, 'queued', 'normal', '1'), (2, 'picked', 'priority', '2'),
                    (1, 'picked', 'normal', '3');
                INSERT INTO pgqueuer_log (job_id, status, priority, entrypoint)
                VALUES (1, 'queued', 1, 'normal');"""
        )
    finally:
        await connection.close()


async def test_waiting_jobs_are_run_after_the_migration(empty_database: Database) -> None:
    await install_with_pgqueuer(empty_database)
    applied = await migrate(empty_database)
    assert applied[0] == "0008_job_notices"

    async with open_job_system(empty_database, Jobs()) as system:
        handler = RecordingHandler()
        assert (await system.job(3)).state == "running"
        await system.sweeper().sweep()
        async with system.working(handler, FAST):
            jobs = await system.ended([1, 2, 3, 6])
        assert {job.id: (job.state, job.attempts) for job in jobs} == {
            1: ("done", 1),
            2: ("done", 3),
            3: ("done", 2),
            6: ("done", 1),
        }
        assert sorted(handler.started) == [1, 2, 3, 6]
        failed = await system.job(4)
        assert (failed.state, failed.fault) == (
            "failed",
            Fault("unprocessable", "convert", retryable=False, detail="Broken."),
        )
        batch = await system.catalog.batches.get(1)
        assert batch is not None
        assert (batch.completed, batch.errors, batch.remaining) == (5, 1, 0)
        assert batch.finished is not None

        async with system.working(handler, FAST):
            await system.submitter.retry(4)
            [again] = await system.ended([4])
        assert again.state == "done"


async def test_a_message_recorded_before_the_migration_is_not_recorded_again(
    empty_database: Database,
) -> None:
    await install_with_pgqueuer(empty_database)
    await migrate(empty_database)
    catalog = await Catalog.open(empty_database)
    try:
        async with catalog.transaction() as connection:
            recorded = await catalog.jobs.record(connection, [a_draft(dedupe="message abc")])
        assert recorded.ids == (6,)
    finally:
        await catalog.close()


@pytest.mark.parametrize("name", ["pgqueuer", "pgqueuer_log", "fn_pgqueuer_changed"])
async def test_nothing_of_pgqueuer_is_left(empty_database: Database, name: str) -> None:
    await install_with_pgqueuer(empty_database)
    await migrate(empty_database)
    connection = await asyncpg.connect(empty_database.dsn.get_secret_value())
    try:
        assert await connection.fetchval("SELECT to_regclass($1)", name) is None
        assert await connection.fetchval("SELECT to_regproc($1)", name) is None
    finally:
        await connection.close()
