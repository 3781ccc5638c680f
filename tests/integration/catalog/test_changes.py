"""Each change of an asset reaches every process, and a lost LISTEN connection is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from orchestrator.catalog.asset_edits import AssetChange
from orchestrator.catalog.asset_transaction import ASSETS_CHANNEL, GONE, PREFIX
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.changes import Change, change_notices
from orchestrator.catalog.embedded.database import embedded
from orchestrator.catalog.embedded.server import PostgresFolder
from orchestrator.catalog.listener import Listener
from orchestrator.catalog.migrator import migrate
from orchestrator.errors import CatalogUnavailable
from orchestrator.model import AssetId
from orchestrator.settings import Database
from tests.integration.catalog.test_assets import CONVERTED, NAMES, PLANNED, a_draft
from tests.support.patience import ANSWER_S, patience


class EventLog:
    """Records the calls of a listener and waits for them."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._more = asyncio.Condition()

    def __call__(self, event: str) -> None:
        self.events.append(event)

    async def until(self, event: str, timeout_s: float = 20) -> None:
        async with asyncio.timeout(timeout_s * patience()):
            while event not in self.events:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def listening(settings: Database) -> AsyncIterator[EventLog]:
    log, ready = EventLog(), asyncio.Event()
    on_notice = change_notices(
        lambda asset_id, version: log(f"{asset_id} {version}"),
        lambda prefix: log(f"prefix {prefix}"),
    )
    listener = Listener(
        settings,
        {ASSETS_CHANNEL: on_notice},
        on_lost=lambda: log("lost"),
        on_restored=lambda: log("restored"),
    )
    task = asyncio.create_task(listener.run(ready))
    try:
        await asyncio.wait_for(ready.wait(), 10 * patience())
        yield log
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_every_kind_of_change_sends_a_notice_with_the_current_version(
    catalog: Catalog, database: Database
) -> None:
    asset_id = AssetId(1, 1, "a")
    async with listening(database) as log:
        version = (await catalog.versions.register(a_draft())).asset.version
        await log.until(f"{asset_id} {version}")

        async def again(change: Callable[[], Awaitable[object]]) -> None:
            log.events.clear()
            await change()
            now = await catalog.assets.get(asset_id)
            await log.until(f"{asset_id} {now.version if now else 0}")

        await again(
            lambda: catalog.versions.complete(
                asset_id, version, source=CONVERTED, thumbnails=PLANNED
            )
        )
        await again(lambda: catalog.edits.change(asset_id, AssetChange(tags=("t",))))
        await again(lambda: catalog.aliases.replace(asset_id, ["other"]))
        await again(lambda: catalog.edits.change(asset_id, AssetChange(roles=("staff",))))
        await again(lambda: catalog.versions.register(a_draft(mark="2-2")))
        latest = await catalog.assets.get(asset_id)
        assert latest is not None
        await again(lambda: catalog.versions.fail(asset_id, latest.version, "broken"))
        await again(lambda: catalog.edits.delete(asset_id))


async def test_a_cleared_prefix_and_an_asset_with_the_same_text_are_two_changes(
    catalog: Catalog,
) -> None:
    asset_id = (await catalog.versions.register(a_draft("abc"))).asset.id
    _, start = await catalog.changes.since(None)
    await catalog.changes.clear_prefix("1/1/abc")
    changed = await catalog.edits.change(asset_id, AssetChange(roles=("staff",)))
    await catalog.changes.clear(AssetId(1, 1, "gone"))
    changes, _ = await catalog.changes.since(start)
    assert set(changes) == {
        Change("1/1/abc", PREFIX),
        Change("1/1/abc", changed.version),
        Change("1/1/gone", GONE),
    }


async def test_no_notice_is_sent_if_nothing_changes_or_all_is_rolled_back(
    catalog: Catalog, database: Database
) -> None:
    await catalog.versions.register(a_draft())
    async with listening(database) as log:
        await catalog.versions.register(a_draft())
        await catalog.versions.fail(AssetId(1, 1, "a"), 10**9, "outdated")
        with suppress(Exception):
            async with catalog._pool.transaction() as connection:
                await connection.execute("SELECT pg_notify('orchestrator_assets', '9 1/1/a')")
                raise RuntimeError
        last = (await catalog.versions.register(a_draft("last"))).asset
        await log.until(f"{last.id} {last.version}")
        assert log.events == ["restored", f"{last.id} {last.version}"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_every_name_arrives_unchanged_in_a_notice(
    catalog: Catalog, database: Database, name: str
) -> None:
    async with listening(database) as log:
        asset = (await catalog.versions.register(a_draft(name))).asset
        await log.until(f"{asset.id} {asset.version}")


async def test_a_notice_that_cannot_be_parsed_does_not_stop_the_listener(
    catalog: Catalog, database: Database
) -> None:
    async with listening(database) as log:
        connection = await asyncpg.connect(database.dsn.get_secret_value())
        for text in ("", "nonsense", "x 1/1/a", "5 not/an/id", "5 1/1/"):
            await connection.execute("SELECT pg_notify('orchestrator_assets', $1)", text)
        await connection.close()
        asset = (await catalog.versions.register(a_draft())).asset
        await log.until(f"{asset.id} {asset.version}")
        assert "lost" not in log.events


async def test_the_listener_reconnects_when_the_server_ends_its_connection(
    catalog: Catalog, database: Database
) -> None:
    async with listening(database) as log:
        log.events.clear()
        connection = await asyncpg.connect(database.dsn.get_secret_value())
        await connection.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE application_name LIKE 'orchestrator process %'
                   AND datname = current_database()"""
        )
        await connection.close()
        await log.until("lost", 2)
        await log.until("restored", 5)
        assert log.events == ["lost", "restored"]
        asset = (await catalog.versions.register(a_draft())).asset
        await log.until(f"{asset.id} {asset.version}")


async def test_the_listener_detects_a_connection_that_fails_silently(
    catalog: Catalog, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two stands a relay that stops passing anything on, as a dead router does."""
    socket = database.dsn.get_secret_value().partition("host=")[2]
    stuck = asyncio.Event()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            while stuck.is_set():
                await asyncio.sleep(0.02)
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = f"{socket}/.s.PGSQL.5432"
        there, back = await asyncio.open_unix_connection(path)
        with suppress(OSError):
            await asyncio.gather(copy(reader, back), copy(there, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    name = database.dsn.get_secret_value().partition("@/")[2].partition("?")[0]
    monkeypatch.setattr("orchestrator.catalog.listener.PROBE_S", 0.2)
    monkeypatch.setattr("orchestrator.catalog.listener.ANSWER_S", 2 * patience())
    settings = database.model_copy(
        update={"dsn": SecretStr(f"postgresql://postgres@127.0.0.1:{port}/{name}?sslmode=disable")}
    )
    async with listening(settings) as log:
        await asyncio.sleep(0.5)
        assert log.events == ["restored"]
        stuck.set()
        await log.until("lost", 15)
        log.events.clear()
        stuck.clear()
        await log.until("restored", 10)
    server.close()


async def test_pool_and_listener_survive_a_restart_of_the_database(tmp_path: Path) -> None:
    manager = embedded(tmp_path)
    server = await asyncio.to_thread(manager.__enter__)
    settings = Database(dsn=SecretStr(server.dsn), pool_min=2, answer_timeout_s=ANSWER_S)
    try:
        await migrate(settings)
        catalog = await Catalog.open(settings)
        asset = (await catalog.versions.register(a_draft())).asset
        async with listening(settings) as log:
            log.events.clear()
            await asyncio.to_thread(PostgresFolder(tmp_path / "postgres").stop)
            await log.until("lost", 5)
            with pytest.raises(CatalogUnavailable):
                await catalog.assets.get(asset.id)
            assert await catalog.check() != ""
            assert await asyncio.to_thread(server.revive)
            await log.until("restored", 15)
            async with asyncio.timeout(15 * patience()):  # until the breaker has noticed it, too
                while await catalog.check():
                    await asyncio.sleep(0.05)
            assert await catalog.assets.get(asset.id) == asset
            after = (await catalog.versions.register(a_draft(mark="2-2"))).asset
            await log.until(f"{after.id} {after.version}")
        await catalog.close()
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def test_a_full_pool_is_unavailable_after_a_while(database: Database) -> None:
    small = database.model_copy(
        update={"pool_min": 2, "pool_max": 2, "query_timeout_s": 2 * patience()}
    )
    catalog = await Catalog.open(small)
    async with catalog.connection(), catalog.connection():
        with pytest.raises(CatalogUnavailable):
            await catalog.assets.get(AssetId(1, 1, "a"))
    assert await catalog.assets.get(AssetId(1, 1, "a")) is None
    await catalog.close()


async def test_a_query_that_takes_too_long_is_cancelled(database: Database) -> None:
    hasty = database.model_copy(update={"query_timeout_s": 2 * patience()})
    catalog = await Catalog.open(hasty)
    blocker = await asyncpg.connect(database.dsn.get_secret_value())
    async with blocker.transaction():
        await blocker.execute("LOCK TABLE assets IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(CatalogUnavailable):
            await catalog.assets.get(AssetId(1, 1, "a"))
    await blocker.close()
    assert await catalog.assets.get(AssetId(1, 1, "a")) is None
    await catalog.close()


async def test_one_process_at_a_time_holds_an_exclusive_lock(
    catalog: Catalog, database: Database
) -> None:
    other = await Catalog.open(database)
    async with catalog.exclusive("work") as first:
        assert first
        async with other.exclusive("work") as second, other.exclusive("else") as third:
            assert (second, third) == (False, True)
    async with other.exclusive("work") as fourth:
        assert fourth
    await other.close()


async def test_all_locks_of_a_process_are_on_one_connection(database: Database) -> None:
    small = database.model_copy(update={"pool_max": 2})
    catalog, other = await Catalog.open(small), await Catalog.open(small)
    async with AsyncExitStack() as locks:
        for number in range(20):
            assert await locks.enter_async_context(catalog.exclusive(f"lock {number}"))
        assert await catalog.assets.get(AssetId(1, 1, "a")) is None
        async with catalog.exclusive("lock 7") as again, other.exclusive("lock 7") as elsewhere:
            assert (again, elsewhere) == (False, False)
        async with catalog.connection() as connection:
            await connection.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_locks
                   WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
                       AND database = (SELECT oid FROM pg_database
                                       WHERE datname = current_database())"""
            )
        async with asyncio.timeout(10 * patience()):  # the locks are lost with the connection
            while not await _is_free(other, "lock 7"):
                await asyncio.sleep(0.01)
        async with asyncio.timeout(10 * patience()):
            while not await _is_free(catalog, "one more"):
                await asyncio.sleep(0.01)
    async with other.exclusive("lock 0") as is_free:
        assert is_free
    await catalog.close()
    await other.close()


async def _is_free(catalog: Catalog, name: str) -> bool:
    try:
        async with catalog.exclusive(name) as is_locked:
            return is_locked
    except CatalogUnavailable:  # the first to meet the lost connection
        return False


async def test_a_lock_whose_holder_was_cancelled_is_free(database: Database) -> None:
    catalog, other = await Catalog.open(database), await Catalog.open(database)

    async def hold() -> None:
        async with catalog.exclusive("work"):
            await asyncio.sleep(3600)

    async with catalog.exclusive("something else"):  # the connection is not given back
        for wait_s in (0, 0.001, 0.005, 0.05):
            task = asyncio.create_task(hold())
            await asyncio.sleep(wait_s)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with asyncio.timeout(10 * patience()):
                while not await _is_free(other, "work"):
                    await asyncio.sleep(0.01)
    await catalog.close()
    await other.close()
