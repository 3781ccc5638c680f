"""Every change is heard by every process; losing the connection is noticed and mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from orchestrator.catalog.asset_transaction import ASSETS_CHANNEL
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.changes import GONE, PREFIX, Change, change_notices
from orchestrator.catalog.embedded.database import embedded
from orchestrator.catalog.embedded.server import PostgresFolder
from orchestrator.catalog.listener import Listener
from orchestrator.catalog.migrator import migrate
from orchestrator.errors import CatalogUnavailable
from orchestrator.model import AssetId
from orchestrator.settings import Database
from tests.integration.catalog.test_assets import CONVERTED, NAMES, PLANNED, a_draft


class Heard:
    """What a listener was told, and a way to wait for it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._more = asyncio.Condition()

    def __call__(self, event: str) -> None:
        self.events.append(event)

    async def until(self, event: str, timeout_s: float = 20) -> None:
        async with asyncio.timeout(timeout_s):
            while event not in self.events:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def listening(settings: Database) -> AsyncIterator[Heard]:
    heard, ready = Heard(), asyncio.Event()
    on_notice = change_notices(
        lambda asset_id, version: heard(f"{asset_id} {version}"),
        lambda prefix: heard(f"prefix {prefix}"),
    )
    listener = Listener(
        settings,
        {ASSETS_CHANNEL: on_notice},
        on_lost=lambda: heard("lost"),
        on_restored=lambda: heard("restored"),
    )
    task = asyncio.create_task(listener.run(ready))
    try:
        await asyncio.wait_for(ready.wait(), 10)
        yield heard
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_every_kind_of_change_is_told_with_the_version_that_is_now_current(
    catalog: Catalog, database: Database
) -> None:
    asset_id = AssetId(1, 1, "a")
    async with listening(database) as heard:
        version = (await catalog.versions.register(a_draft())).asset.version
        await heard.until(f"{asset_id} {version}")

        async def again(change: Callable[[], Awaitable[object]]) -> None:
            heard.events.clear()
            await change()
            now = await catalog.assets.get(asset_id)
            await heard.until(f"{asset_id} {now.version if now else 0}")

        await again(
            lambda: catalog.versions.complete(
                asset_id, version, source=CONVERTED, thumbnails=PLANNED
            )
        )
        await again(lambda: catalog.assets.set_fields(asset_id, tags=("t",)))
        await again(lambda: catalog.aliases.replace(asset_id, ["other"]))
        await again(lambda: catalog.versions.set_access(asset_id, roles=["staff"]))
        await again(lambda: catalog.versions.register(a_draft(mark="2-2")))
        latest = await catalog.assets.get(asset_id)
        assert latest is not None
        await again(lambda: catalog.versions.fail(asset_id, latest.version, "broken"))
        await again(lambda: catalog.assets.delete(asset_id))


async def test_a_cleared_prefix_is_remembered_beside_an_asset_of_the_same_text(
    catalog: Catalog,
) -> None:
    asset_id = (await catalog.versions.register(a_draft("abc"))).asset.id
    _, start = await catalog.changes.since(None)
    await catalog.changes.clear_prefix("1/1/abc")
    changed = await catalog.versions.set_access(asset_id, roles=["staff"])
    await catalog.changes.clear(AssetId(1, 1, "gone"))
    changes, _ = await catalog.changes.since(start)
    assert set(changes) == {
        Change("1/1/abc", PREFIX),
        Change("1/1/abc", changed.version),
        Change("1/1/gone", GONE),
    }


async def test_what_changes_nothing_or_is_rolled_back_is_not_told(
    catalog: Catalog, database: Database
) -> None:
    await catalog.versions.register(a_draft())
    async with listening(database) as heard:
        await catalog.versions.register(a_draft())
        await catalog.versions.fail(AssetId(1, 1, "a"), 10**9, "outdated")
        with suppress(Exception):
            async with catalog._pool.transaction() as connection:
                await connection.execute("SELECT pg_notify('orchestrator_assets', '9 1/1/a')")
                raise RuntimeError
        last = (await catalog.versions.register(a_draft("last"))).asset
        await heard.until(f"{last.id} {last.version}")
        assert heard.events == ["restored", f"{last.id} {last.version}"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_every_name_arrives_as_it_was_sent(
    catalog: Catalog, database: Database, name: str
) -> None:
    async with listening(database) as heard:
        asset = (await catalog.versions.register(a_draft(name))).asset
        await heard.until(f"{asset.id} {asset.version}")


async def test_a_notice_that_nobody_understands_does_not_end_the_listening(
    catalog: Catalog, database: Database
) -> None:
    async with listening(database) as heard:
        connection = await asyncpg.connect(database.dsn.get_secret_value())
        for text in ("", "nonsense", "x 1/1/a", "5 not/an/id", "5 1/1/"):
            await connection.execute("SELECT pg_notify('orchestrator_assets', $1)", text)
        await connection.close()
        asset = (await catalog.versions.register(a_draft())).asset
        await heard.until(f"{asset.id} {asset.version}")
        assert "lost" not in heard.events


async def test_a_connection_the_server_ends_is_noticed_at_once_and_made_again(
    catalog: Catalog, database: Database
) -> None:
    async with listening(database) as heard:
        heard.events.clear()
        connection = await asyncpg.connect(database.dsn.get_secret_value())
        await connection.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE query LIKE 'LISTEN%' AND datname = current_database()"""
        )
        await connection.close()
        await heard.until("lost", 2)
        await heard.until("restored", 5)
        assert heard.events == ["lost", "restored"]
        asset = (await catalog.versions.register(a_draft())).asset
        await heard.until(f"{asset.id} {asset.version}")


async def test_a_connection_that_goes_silent_is_found_out_by_asking(
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
    settings = database.model_copy(
        update={
            "dsn": SecretStr(f"postgresql://postgres@127.0.0.1:{port}/{name}?sslmode=disable"),
            "query_timeout_s": 0.3,
            "connect_timeout_s": 0.3,
        }
    )
    async with listening(settings) as heard:
        await asyncio.sleep(0.5)
        assert heard.events == ["restored"]
        stuck.set()
        await heard.until("lost", 3)
        heard.events.clear()
        stuck.clear()
        await heard.until("restored", 10)
    server.close()


async def test_a_restart_of_the_database_is_survived_by_pool_and_listener(tmp_path: Path) -> None:
    manager = embedded(tmp_path)
    server = await asyncio.to_thread(manager.__enter__)
    settings = Database(
        dsn=SecretStr(server.dsn), pool_min=2, connect_timeout_s=1, query_timeout_s=2
    )
    try:
        await migrate(settings)
        catalog = await Catalog.open(settings)
        asset = (await catalog.versions.register(a_draft())).asset
        async with listening(settings) as heard:
            heard.events.clear()
            await asyncio.to_thread(PostgresFolder(tmp_path / "postgres").stop)
            await heard.until("lost", 5)
            with pytest.raises(CatalogUnavailable):
                await catalog.assets.get(asset.id)
            assert await catalog.check() != ""
            assert await asyncio.to_thread(server.revive)
            await heard.until("restored", 15)
            assert await catalog.assets.get(asset.id) == asset
            assert await catalog.check() == ""
            after = (await catalog.versions.register(a_draft(mark="2-2"))).asset
            await heard.until(f"{after.id} {after.version}")
        await catalog.close()
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def test_a_full_pool_says_so_instead_of_waiting_for_ever(database: Database) -> None:
    await migrate(database)
    small = database.model_copy(update={"pool_max": 2, "query_timeout_s": 0.3})
    catalog = await Catalog.open(small)
    async with catalog.exclusive("one"), catalog.exclusive("two"):
        with pytest.raises(CatalogUnavailable):
            await catalog.assets.get(AssetId(1, 1, "a"))
    assert await catalog.assets.get(AssetId(1, 1, "a")) is None
    await catalog.close()


async def test_a_query_that_takes_too_long_is_given_up(database: Database) -> None:
    await migrate(database)
    hasty = database.model_copy(update={"query_timeout_s": 0.3})
    catalog = await Catalog.open(hasty)
    blocker = await asyncpg.connect(database.dsn.get_secret_value())
    async with blocker.transaction():
        await blocker.execute("LOCK TABLE assets IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(CatalogUnavailable):
            await catalog.assets.get(AssetId(1, 1, "a"))
    await blocker.close()
    assert await catalog.assets.get(AssetId(1, 1, "a")) is None
    await catalog.close()


async def test_an_exclusive_lock_is_held_by_one_and_free_again_after(
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
