"""The circuit breaker on a real PostgreSQL that is stopped with SIGSTOP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr

from orchestrator import metrics
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.embedded.database import embedded
from orchestrator.catalog.listener import ANSWER_S, Listener
from orchestrator.catalog.migrator import migrate
from orchestrator.errors import CatalogUnavailable
from orchestrator.model import AssetId
from orchestrator.settings import Database
from tests.support.patience import patience
from tests.support.pausing import paused, postgres_pids

ASSET = AssetId(1, 1, "one")
AWAY_S = 2.0 * patience()
"""Time after which the silent database counts as away: no pause of a busy machine is as long."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Database]]:
    """A server of its own: others use the shared one at the same time."""
    folder = tmp_path_factory.mktemp("breaker")
    with embedded(folder) as running:
        yield (
            folder,
            Database(
                dsn=SecretStr(running.dsn), answer_timeout_s=AWAY_S, query_timeout_s=20 * AWAY_S
            ),
        )


@pytest.fixture
async def settings(server) -> Database:
    await migrate(server[1])
    return server[1]


@pytest.fixture
def postgres_folder(server) -> Path:
    return server[0]


async def seconds_until_refused(catalog: Catalog) -> float:
    began = time.monotonic()
    with pytest.raises(CatalogUnavailable):
        await catalog.get(ASSET)
    return time.monotonic() - began


async def wait_until_answering(catalog: Catalog) -> None:
    async with asyncio.timeout(20 * patience()):
        while await catalog.check():
            await asyncio.sleep(0.02)


@pytest.fixture
async def catalog(settings):
    opened = await Catalog.open(settings)
    await opened.get(ASSET)  # a connection is open
    yield opened
    await opened.close()


async def test_only_the_first_reads_wait_for_a_hung_database(catalog, postgres_folder):
    with paused(*postgres_pids(postgres_folder)):
        # Twenty at once: more than the pool has connections. All end together.
        waits = await asyncio.gather(*(seconds_until_refused(catalog) for _ in range(20)))
        assert max(waits) < 1.9 * AWAY_S, "none waits for the end of another one"
        assert metrics.BREAKER_OPEN._value.get() == 1
        assert max([await seconds_until_refused(catalog) for _ in range(20)]) < 0.2 * patience()
        assert await catalog.check()
    await wait_until_answering(catalog)
    assert metrics.BREAKER_OPEN._value.get() == 0
    assert await catalog.get(ASSET) is None


async def test_a_transaction_in_progress_ends_when_the_database_hangs(catalog, postgres_folder):
    async with asyncio.timeout(3 * AWAY_S):
        with pytest.raises(CatalogUnavailable), paused(*postgres_pids(postgres_folder)):
            async with catalog.transaction() as connection:
                await connection.fetchval("SELECT 1")
    await wait_until_answering(catalog)


async def test_a_hung_database_gets_one_probe_at_a_time(catalog, postgres_folder):
    pids = postgres_pids(postgres_folder)
    with paused(*pids):
        await seconds_until_refused(catalog)
        probe = catalog._pool._breaker._probing
        await asyncio.gather(*(seconds_until_refused(catalog) for _ in range(500)))
        assert catalog._pool._breaker._probing is probe
    await wait_until_answering(catalog)
    # 200 requests that return at once share the connections of the pool.
    await asyncio.gather(*(catalog.get(ASSET) for _ in range(200)))
    async with catalog.connection() as connection:
        backends = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'orchestrator%'"
        )
    assert backends <= Database().pool_max + 1


async def test_a_slow_statement_and_a_full_pool_do_not_open_the_breaker(settings):
    catalog = await Catalog.open(settings.model_copy(update={"pool_max": 2}))
    opened = metrics.BREAKER_OPENED._value.get()

    async def sleep_in_the_database() -> None:
        async with catalog.connection() as connection:
            await connection.execute("SELECT pg_sleep($1)", 1.2 * AWAY_S)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):  # the last two wait longer than AWAY_S for a connection
                tasks.create_task(sleep_in_the_database())
    finally:
        await catalog.close()
    assert metrics.BREAKER_OPENED._value.get() == opened


async def test_a_lock_is_not_waited_for_while_the_database_hangs(catalog, postgres_folder):
    pids = postgres_pids(postgres_folder)
    async with asyncio.timeout(30 * patience()), AsyncExitStack() as stack:
        async with catalog.exclusive("a lock") as is_locked:
            assert is_locked
            stack.enter_context(paused(*pids))
            with pytest.raises(CatalogUnavailable):
                async with catalog.exclusive("another lock"):
                    pass
            began = time.monotonic()
        assert time.monotonic() - began < patience(), "the end of the lock does not wait"
    await wait_until_answering(catalog)
    async with catalog.exclusive("a lock") as is_locked:
        assert is_locked


async def test_the_catalogue_closes_while_the_database_hangs(settings, postgres_folder):
    catalog = await Catalog.open(settings)
    await catalog.get(ASSET)
    with paused(*postgres_pids(postgres_folder)):
        await seconds_until_refused(catalog)
        async with asyncio.timeout(10 * patience()):
            await catalog.close()


async def test_a_process_that_met_the_hang_does_not_wait_for_the_test_of_its_listener(
    catalog, settings, postgres_folder
):
    lost, restored = asyncio.Event(), asyncio.Event()
    listener = Listener(settings, {}, on_lost=lost.set, on_restored=restored.set)
    catalog.when_away(listener.disconnect)
    task = asyncio.create_task(listener.run())
    try:
        async with asyncio.timeout(20 * patience()):
            await restored.wait()
            restored.clear()
            with paused(*postgres_pids(postgres_folder)):
                await seconds_until_refused(catalog)
                began = time.monotonic()
                await lost.wait()
                assert time.monotonic() - began < ANSWER_S - 1  # its own test takes longer
            await restored.wait()
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_listener_detects_a_connection_that_hangs(settings, postgres_folder):
    lost, restored = asyncio.Event(), asyncio.Event()
    listener = Listener(settings, {}, on_lost=lost.set, on_restored=restored.set)
    task = asyncio.create_task(listener.run())
    try:
        async with asyncio.timeout(20 * patience()):
            await restored.wait()
            restored.clear()
            with paused(*postgres_pids(postgres_folder)):
                await lost.wait()
            await restored.wait()
    finally:
        task.cancel()
        await asyncio.wait({task})
