"""The contract of every object store under concurrency: conditions, races, cancelled readers."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from orchestrator.errors import (
    PreconditionFailed,
)
from orchestrator.storage.store import ObjectStore, read
from tests.support.descriptors import open_descriptors

pytestmark = pytest.mark.asyncio(loop_scope="session")
LARGE = 20 * 1024**2


async def keys_below(store: ObjectStore, prefix: str) -> list[str]:
    return sorted([info.key async for info in store.list(prefix)])


async def test_a_read_with_another_etag_fails(
    store: ObjectStore,
) -> None:
    old = await store.put("a", b"old")
    new = await store.put("a", b"new")
    assert await read(store, "a", max_bytes=3, if_match=new.etag) == b"new"
    with pytest.raises(PreconditionFailed):
        await read(store, "a", max_bytes=3, if_match=old.etag)
    with pytest.raises(PreconditionFailed):
        async with store.open("a", start=1, length=1, if_match=old.etag):
            pass


async def test_put_if_absent_never_replaces(store: ObjectStore) -> None:
    await store.put("a", b"first", if_absent=True)
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"second", if_absent=True)
    assert await read(store, "a", max_bytes=100) == b"first"


async def test_exactly_one_of_many_concurrent_puts_if_absent_succeeds(store: ObjectStore) -> None:
    async def write(number: int) -> int | None:
        try:
            await store.put("race", b"%d" % number, if_absent=True)
        except PreconditionFailed:
            return None
        return number

    winners = [
        number for number in await asyncio.gather(*map(write, range(24))) if number is not None
    ]
    assert len(winners) == 1
    assert await read(store, "race", max_bytes=10) == b"%d" % winners[0]


async def test_put_if_match_replaces_only_the_object_with_that_etag(store: ObjectStore) -> None:
    first = await store.put("a", b"first")
    second = await store.put("a", b"second", if_match=first.etag)
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"third", if_match=first.etag)
    with pytest.raises(PreconditionFailed):
        await store.put("nothing", b"x", if_match=second.etag)
    assert await read(store, "a", max_bytes=100) == b"second"
    assert await keys_below(store, "") == ["a"]


async def test_exactly_one_of_many_concurrent_puts_if_match_succeeds(
    store: ObjectStore,
) -> None:
    first = await store.put("race", b"first")

    async def write(number: int) -> bool:
        try:
            await store.put("race", b"writer %d" % number, if_match=first.etag)
        except PreconditionFailed:
            return False
        return True

    assert sum(await asyncio.gather(*map(write, range(16)))) == 1


async def test_readers_see_only_whole_objects_while_they_are_replaced(store: ObjectStore) -> None:
    bodies = {bytes([letter]) * 300_000 for letter in b"abcd"}
    await store.put("hot", next(iter(bodies)))
    done = asyncio.Event()

    async def write() -> None:
        for body in [*bodies] * 5:
            await store.put("hot", body)
        done.set()

    async def read_repeatedly() -> int:
        reads = 0
        while not done.is_set():
            async with store.open("hot") as stream:
                body = await stream.read()
            assert body in bodies
            assert len(body) == stream.info.bytes
            reads += 1
        return reads

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        readers = [group.create_task(read_repeatedly()) for _ in range(4)]
    assert all(reader.result() > 0 for reader in readers)


async def test_a_large_write_whose_condition_fails_leaves_the_current_object(
    store: ObjectStore, tmp_path: Path
) -> None:
    await store.put("large.tif", b"small")
    path = tmp_path / "large.tif"
    path.write_bytes(bytes(LARGE))
    with pytest.raises(PreconditionFailed):
        await store.put("large.tif", path, if_absent=True)
    with pytest.raises(PreconditionFailed):
        await store.put("large.tif", path, if_match='"another"')
    assert await read(store, "large.tif", max_bytes=100) == b"small"


async def test_reads_that_end_early_or_are_cancelled_leak_no_connection_and_no_file(
    store: ObjectStore, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(LARGE))
    await store.put("large", path)

    async def read_slowly() -> None:
        async with store.open("large") as stream:
            async for _ in stream:
                await asyncio.sleep(60)

    async def read_one_chunk() -> None:
        async with store.open("large") as stream:
            await anext(stream)

    await asyncio.gather(*(read_one_chunk() for _ in range(8)))
    before = await _open_files()
    for pause_s in (0, 0.0005, 0.002, 0.02, 0.2):
        tasks = [asyncio.create_task(read_slowly()) for _ in range(100)]
        await asyncio.sleep(pause_s)
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError)
            for end in await asyncio.gather(*tasks, return_exceptions=True)
        )
    await asyncio.gather(*(read_one_chunk() for _ in range(8)))
    # At most 64 connections to the S3 server stay open, but not those of five rounds of 100 reads.
    assert await _open_files() <= before + 64
    assert await read(store, "large", max_bytes=LARGE) == path.read_bytes()


async def _open_files() -> int:
    gc.collect()
    await asyncio.sleep(0.3)
    return open_descriptors()
