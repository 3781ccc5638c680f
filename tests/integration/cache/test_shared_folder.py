"""One source folder, several hosts: one quota, one owner, one copy, whoever dies."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from orchestrator.cache import shared_keeping
from orchestrator.cache.disk.file_names import place
from orchestrator.cache.shared import SharedFolder
from orchestrator.cache.shared_room import FOLDERS
from orchestrator.catalog.catalog import Catalog
from orchestrator.errors import NoRoom
from tests.support.caches import du
from tests.support.servers import catalog, database, postgres
from tests.support.sharing import (
    MB,
    QUOTA,
    Host,
    bring,
    host,
    keeper,
    kill,
    quick,
    root,
    source,
)

__all__ = ["catalog", "database", "host", "postgres", "quick", "root"]


async def test_what_one_host_brings_every_host_finds(host: Host) -> None:
    one, other = await host(), await host()
    assert await one.path(source(1)) is None
    path = await bring(one, source(1))
    assert path.read_bytes() == b"\1" * MB
    assert await other.path(source(1)) == path
    async with other.held(source(1)) as held:
        assert held == path
    totals = await other.totals()
    assert (totals.files, totals.reserved, totals.walking) == (1, 0, False)


async def test_both_ask_at_once_and_one_copies(host: Host) -> None:
    one, other = await host(), await host()
    copies = 0

    async def copied(shared: SharedFolder) -> Path:
        nonlocal copies
        async with shared.writing(source(1), MB) as writing:
            if writing.present is not None:
                return writing.present
            copies += 1
            await asyncio.sleep(0.2)
            writing.path.write_bytes(bytes(MB))
            return await writing.publish()

    paths = await asyncio.gather(*(copied(shared) for shared in (one, other, one, other)))
    assert copies == 1
    assert len(set(paths)) == 1


async def test_a_copy_that_fails_is_the_next_ones_to_make(host: Host, root: Path) -> None:
    one, other = await host(), await host()
    with pytest.raises(ConnectionError):
        async with one.writing(source(1), MB) as writing:
            writing.path.write_bytes(bytes(100))
            raise ConnectionError
    assert list((root / ".temp").iterdir()) == []
    assert (await one.totals()).reserved == 0
    await bring(other, source(1))


async def test_one_quota_holds_at_every_moment_whoever_writes(host: Host, root: Path) -> None:
    hosts = [await host() for _ in range(3)]
    samples: list[int] = []

    async def write(number: int) -> None:
        for step in range(12):
            product = source(number * 100 + step)
            async with hosts[number].writing(product, MB) as writing:
                with writing.path.open("wb") as file:
                    for _ in range(4):
                        file.write(bytes(MB // 4))
                        file.flush()
                        samples.append(du(root))
                        await asyncio.sleep(0)
                await writing.publish()

    await asyncio.gather(*(write(number) for number in range(3)))
    assert max(samples) <= QUOTA
    assert max(samples) > QUOTA * 0.7
    totals = await hosts[0].totals()
    assert du(root) <= totals.bytes <= QUOTA
    assert (await hosts[1].verify()).sound
    assert hosts[0].room.evicted_files + hosts[1].room.evicted_files > 10


async def test_the_least_recently_used_by_any_host_leaves_first(host: Host) -> None:
    one, other = await host(lease_s=0.0), await host(lease_s=0.0)
    for number in range(10):
        await bring(one, source(number))
    await other.path(source(0))
    await other.presence.beat()
    await bring(one, source(10))
    await bring(one, source(11))
    there = [n for n in range(12) if await one.path(source(n))]
    assert there[0] == 0
    assert 1 not in there


async def test_what_is_read_or_pinned_on_any_host_stays(host: Host) -> None:
    one, other = await host(), await host()
    await bring(one, source(0))
    await bring(one, source(1, pinned=True))
    async with other.held(source(0)) as held:
        for number in range(2, 30):
            await bring(one, source(number))
        assert held is not None
        assert held.exists()
    assert await one.path(source(1))
    assert await one.path(source(2)) is None


async def test_pins_are_settled_with_the_catalogue(host: Host) -> None:
    shared = await host(lease_s=0.0)
    for number in range(3):
        await bring(shared, source(number, pinned=number == 2))
    assert await shared.settle_pins(["1/1/0"], lambda text: text == "1/1/9") == 2
    assert await shared.settle_pins(["1/1/0"], lambda text: text == "1/1/9") == 0
    for number in range(10, 30):
        await bring(shared, source(number))
    assert [n for n in range(3) if await shared.path(source(n))] == [0]


async def test_without_room_nothing_is_evicted_in_vain(host: Host) -> None:
    shared = await host()
    await bring(shared, source(1))
    with pytest.raises(NoRoom):
        await bring(shared, source(2), 2 * QUOTA)
    assert await shared.path(source(1))
    with pytest.raises(NoRoom):
        async with shared.writing(source(3), MB) as writing:
            await writing.grow(2 * QUOTA)
    assert (await shared.stats()).refused == 1


async def test_a_file_that_outgrew_its_room_is_not_kept(host: Host, root: Path) -> None:
    shared = await host()
    with pytest.raises(NoRoom):
        async with shared.writing(source(1), 1000) as writing:
            writing.path.write_bytes(bytes(2 * QUOTA))
            await writing.publish()
    assert await shared.path(source(1)) is None
    assert du(root) < MB


async def test_the_least_quota_of_the_living_counts(host: Host) -> None:
    wide, _narrow = await host(quota=100 * MB), await host(quota=6 * MB)
    for number in range(10):
        await bring(wide, source(number))
    assert (await wide.totals()).bytes <= 6 * MB


async def test_a_file_that_vanished_is_a_miss_and_is_brought_again(host: Host, root: Path) -> None:
    one, other = await host(), await host()
    path = await bring(one, source(1))
    path.unlink()
    assert await other.path(source(1)) is None
    assert await bring(other, source(1)) == path
    assert path.exists()
    assert (await one.verify()).sound


async def test_a_file_no_row_knows_is_counted_when_it_is_found(host: Host, root: Path) -> None:
    shared = await host()
    path = root / place(source(1)).path
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(MB))
    assert (await shared.verify()).unknown == 1
    assert await shared.path(source(1)) == path
    assert (await shared.totals()).bytes > FOLDERS + MB
    assert await shared.has_unnamed() is False


async def test_an_asset_is_dropped_for_all_hosts_but_not_from_under_a_reader(
    host: Host, catalog: Catalog
) -> None:
    one, other = await host(lease_s=0.3), await host(lease_s=0.3)
    for version in (1, 2):
        await bring(one, source(1, version))
    await bring(one, source(2))
    await asyncio.sleep(0.4)
    async with other.held(source(2)) as held:
        assert await one.drop_older("1/1/1", 2) == 1
        assert await other.path(source(1, 1)) is None
        assert await one.drop_asset("1/1/2") == 0
        assert held is not None
        assert held.exists()
    await asyncio.sleep(0.4)
    assert await keeper(catalog, one).once()
    assert not held.exists(), "when nobody reads it any more it goes"
    assert await other.drop_prefix("1/1/") == 1
    assert (await one.totals()).files == 0


async def test_clearing_leaves_no_file(host: Host, root: Path) -> None:
    shared = await host()
    for number in range(4):
        await bring(shared, source(number))
    assert await shared.clear() == 4
    assert (await shared.totals()).files == 0
    assert du(root) < FOLDERS


async def test_one_owner_and_another_within_seconds_of_its_death(
    host: Host, catalog: Catalog, quick: None
) -> None:
    one, other = await host(), await host()
    keepers = [keeper(catalog, one), keeper(catalog, other)]
    assert [await each.once() for each in keepers] == [True, False]
    assert [await each.once() for each in keepers] == [True, False]
    await asyncio.sleep(0.5)
    assert await keepers[1].once(), "the lease was out"
    held = keepers[0]._held
    assert held is not None
    with pytest.raises(shared_keeping.NoLongerOwner):
        async with one.room.locked(held):
            pass
    assert not await keepers[0].once()
    await keepers[1].release()
    assert await keepers[0].once(), "who says goodbye is followed at once"


async def test_what_the_dead_were_writing_is_cleared_away(
    host: Host, catalog: Catalog, root: Path, quick: None
) -> None:
    one, other = await host(), await host()
    writing = one.writing(source(1), MB)
    half = await writing.__aenter__()
    half.path.write_bytes(bytes(MB // 2))
    await kill(one)
    (root / ".temp" / "0123456789abcdef-0.jp2").write_bytes(b"older still")
    await asyncio.sleep(1)
    assert await keeper(catalog, other).once()
    assert list((root / ".temp").iterdir()) == []
    assert (await other.totals()).reserved == 0
    with pytest.raises(NoRoom):  # it was only asleep
        await half.publish()
    await writing.__aexit__(None, None, None)


async def test_the_claim_of_the_dead_is_taken_by_who_waits_for_it(
    host: Host, root: Path, quick: None
) -> None:
    one, other = await host(), await host()
    half = await one.writing(source(1), MB).__aenter__()
    half.path.write_bytes(bytes(MB // 2))
    await kill(one)
    async with asyncio.timeout(5):
        path = await bring(other, source(1))
    with pytest.raises(NoRoom):  # it was only asleep
        await half.publish()
    assert path.read_bytes() == b"\1" * MB
    assert list((root / ".temp").iterdir()) == []


async def test_killed_between_rename_and_commit_the_file_is_counted(
    host: Host, catalog: Catalog, quick: None
) -> None:
    one, other = await host(), await host()
    writing = await one.writing(source(1), MB).__aenter__()
    writing.path.write_bytes(bytes(MB))
    one.room.give_name(writing.path, writing.where)
    await kill(one)
    await asyncio.sleep(1)
    assert await keeper(catalog, other).once()
    totals = await other.totals()
    assert (totals.files, totals.reserved) == (1, 0)
    assert await other.path(source(1))


async def test_the_owner_frees_ahead_down_to_low_water(host: Host, catalog: Catalog) -> None:
    shared = await host(lease_s=0.0)
    for number in range(10):
        await bring(shared, source(number))
    assert await keeper(catalog, shared, low_water=0.5).once()
    assert (await shared.totals()).bytes <= QUOTA * 0.5


async def test_a_folder_the_database_does_not_know_is_looked_through_before_room_is_given(
    host: Host, catalog: Catalog, root: Path
) -> None:
    for number in range(5):
        path = root / place(source(number)).path
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(MB))
        os.utime(path, (1_000_000 + number,) * 2)
    shared = await host(lease_s=0.0)
    assert await shared.path(source(1)), "found by name"
    with pytest.raises(NoRoom):
        await bring(shared, source(10))
    owner = keeper(catalog, shared)
    while (await shared.totals()).walking:
        assert await owner.once()
    totals = await shared.totals()
    assert totals.files == 5
    assert du(root) <= totals.bytes
    for number in range(10, 16):
        await bring(shared, source(number))
    assert await shared.path(source(0)) is None, "the oldest went first"


async def test_a_crashed_owners_leavings_are_found(
    host: Host, catalog: Catalog, root: Path, quick: None
) -> None:
    one, other = await host(), await host()
    assert await keeper(catalog, one).once()
    path = await bring(one, source(1))
    path.unlink()
    stray = root / place(source(2)).path
    stray.parent.mkdir(parents=True)
    stray.write_bytes(bytes(MB))
    await kill(one)
    await asyncio.sleep(0.6)
    assert await keeper(catalog, other).once()
    assert (await other.verify()).sound
    assert (await other.totals()).files == 1


async def test_while_the_folder_cannot_be_reached_nothing_is_found_and_nothing_written(
    host: Host, root: Path
) -> None:
    shared = await host()
    path = await bring(shared, source(1))
    root.rename(root.with_name("away"))
    root.touch()
    await shared.presence.beat()
    assert await shared.path(source(1)) is None
    with pytest.raises(NoRoom):
        await bring(shared, source(2))
    assert (await shared.stats()).files == 0
    root.unlink()
    root.with_name("away").rename(root)
    await shared.presence.beat()
    assert await shared.path(source(1)) == path
    await bring(shared, source(2))


async def test_without_the_database_files_are_read_and_nothing_is_written(
    host: Host, catalog: Catalog
) -> None:
    shared = await host(lease_s=0.0)
    path = await bring(shared, source(1))
    await catalog.close()
    assert await shared.path(source(1)) == path
    with pytest.raises(NoRoom):
        await bring(shared, source(2))
    assert await shared.drop_asset("1/1/1") == 0
    await shared.presence.beat()
