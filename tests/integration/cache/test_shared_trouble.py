"""A folder shared by several hosts when the database, a commit or a row is not what it was."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from orchestrator.cache.disk.file_names import place
from orchestrator.cache.shared_room import Claim
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.migrator import migrations
from orchestrator.catalog.owners import Ownership
from orchestrator.catalog.shared_files import LockedFolder
from orchestrator.errors import CatalogUnavailable, NoRoom
from orchestrator.settings import Database
from tests.support.servers import catalog, database, postgres
from tests.support.sharing import Host, bring, host, keeper, quick, root, source

__all__ = ["catalog", "database", "host", "postgres", "quick", "root"]


async def executed(database: Database, *statements: str) -> None:
    connection = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_what_is_to_be_dropped_has_an_age(host: Host, catalog: Catalog) -> None:
    shared = await host()
    await bring(shared, source(1))
    async with shared.held(source(1)):
        await shared.drop_asset("1/1/1")
    [row] = await catalog.shared_files.of_asset(shared.room.id(), place(source(1)).asset)
    assert math.isfinite(row.age_s)


async def test_what_an_earlier_release_dropped_is_given_an_age(
    host: Host, catalog: Catalog, database: Database
) -> None:
    shared = await host()
    await bring(shared, source(1))
    old = "UPDATE shared_files SET last_used = '-infinity'"
    await executed(database, old, migrations()["0007_doomed"])
    [row] = await catalog.shared_files.of_asset(shared.room.id(), place(source(1)).asset)
    assert math.isfinite(row.age_s)


async def test_a_claim_whose_commit_was_not_answered_keeps_nobody_out(
    host: Host, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await host(), await host()
    locked = one.files.locked
    lost = iter([True])

    @asynccontextmanager
    async def unanswered(folder: UUID, owner: Ownership | None) -> AsyncIterator[LockedFolder]:
        async with locked(folder, owner) as held:
            yield held
        if next(lost, False):
            raise CatalogUnavailable("The answer got lost.")

    monkeypatch.setattr(one.room, "files", SimpleNamespace(locked=unanswered))
    with pytest.raises(NoRoom):
        await bring(one, source(1))
    assert (await other.totals()).reserved == 0
    async with asyncio.timeout(5):
        await bring(other, source(1))
        await bring(one, source(2))


async def test_a_claim_given_up_while_it_is_committed_keeps_nobody_out(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await host(), await host()
    locked = one.files.locked
    committed = asyncio.Event()

    @asynccontextmanager
    async def slow(folder: UUID, owner: Ownership | None) -> AsyncIterator[LockedFolder]:
        async with locked(folder, owner) as held:
            yield held
        if not committed.is_set():
            committed.set()
            await asyncio.sleep(60)

    monkeypatch.setattr(one.room, "files", SimpleNamespace(locked=slow))
    bringing = asyncio.create_task(bring(one, source(1)))
    await committed.wait()
    bringing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bringing
    async with asyncio.timeout(5):
        await bring(other, source(1))


async def test_a_folder_the_database_forgot_is_registered_again(
    host: Host, catalog: Catalog, database: Database, quick: None
) -> None:
    one, other = await host(), await host()
    path = await bring(one, source(1))
    kept = keeper(catalog, one)
    assert await kept.once()
    await executed(database, "DELETE FROM shared_folders")
    with pytest.raises(NoRoom):
        await bring(one, source(2))
    async with asyncio.timeout(10):
        while not await kept.once() or (await one.totals()).walking:
            await asyncio.sleep(0.05)
        while other.room.folder is None:
            await asyncio.sleep(0.05)
    assert await other.path(source(1)) == path
    assert (await one.totals()).files == 1
    await bring(other, source(2))


async def test_a_heart_that_fails_once_goes_on_beating(
    host: Host, caplog: pytest.LogCaptureFixture, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = await host()
    beat, beaten = shared.presence.beat, asyncio.Event()
    failures = iter([RuntimeError("unforeseen")])

    async def failing() -> None:
        for failure in failures:
            raise failure
        await beat()
        beaten.set()

    monkeypatch.setattr(shared.presence, "beat", failing)
    async with asyncio.timeout(5):
        await beaten.wait()
    assert "unforeseen" in caplog.text


async def test_a_file_that_is_gone_and_cannot_be_removed_is_looked_for_with_pauses(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = await host()
    path = await bring(shared, source(1))
    path.unlink()
    claims, claim = 0, shared.room.claim

    async def counted(*given: Any, **more: Any) -> Claim:
        nonlocal claims
        claims += 1
        return await claim(*given, **more)

    monkeypatch.setattr(shared.room, "claim", counted)
    monkeypatch.setattr(shared.room.tree, "remove", lambda _place: False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await bring(shared, source(1))
    assert claims < 10
