"""Sources copied to fast disk: disks that refuse a copy, and copies that must not block each
other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cache.single_flight import SingleFlight
from orchestrator.errors import StorageUnavailable
from orchestrator.model import Asset, AssetId
from orchestrator.routing.orchestrate import NotOrchestrated, SourceOrchestrator
from orchestrator.routing.warmer import SourceWarmer
from orchestrator.settings import Delivery
from orchestrator.storage.filesystem_store import FilesystemStore
from tests.support.builders import a_source, an_asset
from tests.support.patience import patience

BODY = b"x" * 100_000


class Writing:
    def __init__(self, path: Path) -> None:
        self.path = path

    async def publish(self) -> Path:
        return self.path


class Cache:
    """An empty cache. Every write goes to `path`."""

    def __init__(self, path: Path) -> None:
        self.written_to = path
        self.room: dict[str, asyncio.Event] = {}
        """The event that the writers of an asset wait for, by asset id."""
        self.waiting = asyncio.Event()

    async def path(self, _product: Any) -> Path | None:
        return None

    @asynccontextmanager
    async def hold(self, _product: Any) -> AsyncIterator[Path | None]:
        yield None

    @asynccontextmanager
    async def open_writer(self, product: Any, _size: int = 0) -> AsyncIterator[Writing]:
        if product.asset in self.room:
            self.waiting.set()
            await self.room[product.asset].wait()
        yield Writing(self.written_to)


class RemoteStore:
    """A store on another host: it gives no local paths."""

    def __init__(self, store: FilesystemStore) -> None:
        self.open = store.open


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    opened = FilesystemStore(tmp_path / "objects")
    yield opened
    await opened.close()


async def stored(store: FilesystemStore, tmp_path: Path, name: str = "a") -> Asset:
    path = tmp_path / "body"
    path.write_bytes(BODY)
    info = await store.put(f"1/1/{name}/1/source.tif", path)
    location = f"store:1/1/{name}/1/source.tif"
    source = a_source(location=location, bytes=len(BODY), fingerprint=info.etag)
    return an_asset(id=AssetId(1, 1, name), source=source)


def sources(
    store: FilesystemStore, cache: Cache, tmp_path: Path, **settings: Any
) -> SourceOrchestrator:
    flights = SingleFlight(tmp_path / "locks", remember=lambda _: 0)
    return SourceOrchestrator(RemoteStore(store), cache, flights, Delivery(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path", [Path("/dev/full"), Path("/proc/nowhere/.temp/x")], ids=["full", "no folder"]
)
async def test_a_disk_that_refuses_writes_counts_as_no_room(
    store: FilesystemStore, tmp_path: Path, path: Path
) -> None:
    files = sources(store, Cache(path), tmp_path)
    with pytest.raises(NotOrchestrated) as refused:
        async with files.lease(await stored(store, tmp_path)):
            pass
    assert refused.value.reason == "no_room"


async def test_the_warm_up_loop_survives_every_failure() -> None:
    failures: list[Exception] = [OSError(), ExceptionGroup("two", [ValueError()])]
    done = asyncio.Event()

    class FailingSources:
        async def orchestrate(self, _asset: Asset) -> None:
            if failures:
                raise failures.pop()
            done.set()

    warmer = SourceWarmer(FailingSources(), 10)  # type: ignore[arg-type]
    for name in "abc":
        warmer.enqueue(an_asset(id=AssetId(1, 1, name)))
    async with asyncio.timeout(5 * patience()), asyncio.TaskGroup() as tasks:
        loop = tasks.create_task(warmer.run())
        await done.wait()
        loop.cancel()


async def test_a_copy_that_waits_for_room_does_not_block_other_copies(
    store: FilesystemStore, tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "copy")
    files = sources(store, cache, tmp_path, copies=1)
    slow, quick = await stored(store, tmp_path, "slow"), await stored(store, tmp_path, "quick")
    cache.room[str(slow.id)] = asyncio.Event()
    async with asyncio.timeout(5 * patience()), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(files.orchestrate(slow))
        await cache.waiting.wait()
        await files.orchestrate(quick)
        assert not waiting.done()
        cache.room[str(slow.id)].set()


async def test_waiting_for_room_ends_with_the_copy_timeout(
    store: FilesystemStore, tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "copy")
    files = sources(store, cache, tmp_path, copy_timeout_s=0.05)
    asset = await stored(store, tmp_path)
    cache.room[str(asset.id)] = asyncio.Event()
    with pytest.raises(StorageUnavailable):
        await files.orchestrate(asset)
