"""Quotas: an ingest reserves at its start, the last transaction settles the difference, a failure
releases. Concurrent ingests cannot exceed a limit, and a refused ingest leaves nothing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.catalog.asset_transaction import lock_asset
from orchestrator.errors import InvalidInput, OverQuota, StorageUnavailable, Unprocessable
from orchestrator.ingest.register import Request
from orchestrator.ingest.scratch import Scratch
from orchestrator.model import AssetId, AssetState
from tests.support import pictures
from tests.support.ingesting import IngestSystem
from tests.support.origins import OriginServer
from tests.support.patience import patience

pytestmark = pytest.mark.asyncio(loop_scope="session")


def an_id(name: object) -> AssetId:
    return AssetId(1, 1, str(name))


async def limit(system: IngestSystem, images: int | None = None, size: int | None = None) -> None:
    await system.catalog.quotas.set_limits(1, max_images=images, max_bytes=size)


async def used(system: IngestSystem) -> tuple[int, int, int, int]:
    use = await system.catalog.quotas.get(1)
    return use.images, use.stored, use.reserved_images, use.reserved_bytes


def a_picture(system: IngestSystem, name: str, width: int = 120, seed: int = 0) -> Path:
    return pictures.jpeg(system.pictures / f"{name}.jpg", width, 80, seed=seed)


async def test_a_customer_without_limits_still_has_a_storage_account(system: IngestSystem) -> None:
    assert await used(system) == (0, 0, 0, 0)
    await system.ingest(Request(an_id("a"), str(a_picture(system, "a"))))
    images, stored, _, _ = await used(system)
    assert images == 1
    assert stored > 1000
    await system.assert_exact()


async def test_an_ingest_over_quota_leaves_no_objects_and_records_the_reason(
    system: IngestSystem,
) -> None:
    await limit(system, size=2000)
    with pytest.raises(OverQuota, match="2000 bytes"):
        await system.ingest(Request(an_id("a"), str(a_picture(system, "a", 900))))
    asset = await system.asset("a")
    assert (asset.state, asset.servable) == (AssetState.FAILED, False)
    assert "limit of 2000 bytes" in asset.error
    [attempt] = await system.catalog.attempts.of(an_id("a"))
    assert attempt.fault is not None
    assert (attempt.fault.code, attempt.fault.stage) == ("over_quota", "store")
    assert not attempt.fault.retryable
    assert system.store.log == []
    assert await system.ledger() == {}
    assert await used(system) == (0, 0, 0, 0)
    assert system.scratch() == []


async def test_a_full_account_refuses_new_images_without_a_request_to_the_origin(
    system: IngestSystem, origin: OriginServer
) -> None:
    await system.ingest(Request(an_id("a"), str(a_picture(system, "a"))))
    _, stored, _, _ = await used(system)
    origin.files["/b.jpg"] = a_picture(system, "b").read_bytes()
    for images, size in ((1, None), (None, stored), (0, 0)):
        await limit(system, images, size)
        with pytest.raises(OverQuota):
            await system.ingest(Request(an_id("b"), origin.url("/b.jpg")))
    assert origin.requests == []
    await system.assert_exact()


async def test_over_the_limit_a_reingest_can_shrink_but_not_grow(
    system: IngestSystem,
) -> None:
    path = a_picture(system, "a", 900)
    large = (await system.ingest(Request(an_id("a"), str(path)))).asset
    _, before, _, _ = await used(system)
    await limit(system, images=0, size=10)
    a_picture(system, "a", 100, seed=1)
    small = (await system.ingest(Request(an_id("a"), str(path)))).asset
    assert small.version > large.version
    _, after, _, _ = await used(system)
    assert after < before
    a_picture(system, "a", 900, seed=2)
    with pytest.raises(OverQuota):
        await system.ingest(Request(an_id("a"), str(path)))
    asset = await system.asset("a")
    assert (asset.version, asset.state) == (small.version, AssetState.READY)
    assert "limit of 10 bytes" in asset.error
    await system.assert_exact()


async def test_concurrent_ingests_do_not_exceed_the_limit_together(system: IngestSystem) -> None:
    await system.ingest(Request(an_id("probe"), str(a_picture(system, "probe"))))
    _, one, _, _ = await used(system)
    await limit(system, size=one * 4 + one // 2)  # the first and three more
    requests = [
        Request(an_id(n), str(a_picture(system, f"race{n}", 120, seed=0))) for n in range(10)
    ]
    done = await asyncio.gather(
        *(system.ingest(request) for request in requests), return_exceptions=True
    )
    assert sum(isinstance(each, OverQuota) for each in done) == 7
    images, stored, held_images, held = await used(system)
    assert (images, held_images, held) == (4, 0, 0)
    assert stored <= one * 4 + one // 2
    await system.assert_exact()


async def test_ingests_are_not_both_refused_for_the_originals_that_they_serve_meanwhile(
    system: IngestSystem,
) -> None:
    await system.ingest(Request(an_id("probe"), str(a_picture(system, "probe", 2000))))
    _, one, _, _ = await used(system)
    requests = [Request(an_id(n), str(a_picture(system, f"race{n}", 2000))) for n in range(2)]
    original = Path(requests[0].origin).stat().st_size
    room = one + original // 2
    assert 2 * original <= room < one + original, "room for both originals, and for one version"
    await limit(system, size=one + room)
    puts = 0

    async def wait_for_both(key: str) -> None:
        nonlocal puts
        puts += 1
        async with asyncio.timeout(60 * patience()):
            while puts < 2:
                await asyncio.sleep(0.01)

    system.store.before_put = wait_for_both
    scratch = ClosedScratch(system.settings.data_dir / "scratch", floor_bytes=0)
    runner = system.build(scratch=scratch).runner
    tasks = [asyncio.create_task(runner.ingest(request)) for request in requests]
    async with asyncio.timeout(60 * patience()):
        while not await are_servable(system, requests):
            await asyncio.sleep(0.01)
        async with system.catalog.transaction() as connection:
            # Neither can give its original up before both were refused.
            for request in requests:
                await lock_asset(connection, request.id)
            scratch.has_room.set()
            while await system.count_waiting() < len(tasks):
                await asyncio.sleep(0.01)
        done = await asyncio.gather(*tasks, return_exceptions=True)
    await scratch.close()
    assert sum(isinstance(each, OverQuota) for each in done) == 1
    await system.assert_exact()


class ClosedScratch(Scratch):
    """Scratch space in which no conversion begins before `has_room` is set."""

    def __init__(self, place: Path, floor_bytes: int) -> None:
        super().__init__(place, floor_bytes)
        self.has_room = asyncio.Event()

    async def check_room(self, expected_bytes: int) -> None:
        """As Scratch.check_room, when there may be room."""
        await self.has_room.wait()
        await super().check_room(expected_bytes)


async def are_servable(system: IngestSystem, requests: list[Request]) -> bool:
    assets = [await system.catalog.assets.get(request.id) for request in requests]
    return all(asset is not None and asset.servable for asset in assets)


async def test_one_of_several_concurrent_reservations_gets_the_last_place(
    system: IngestSystem,
) -> None:
    await limit(system, images=3, size=1000)
    quotas = system.catalog.quotas

    async def reserve(n: int) -> bool:
        try:
            return await quotas.reserve(an_id(n), 300, 60) is not None
        except OverQuota:
            return False

    done = await asyncio.gather(*(reserve(n) for n in range(20)))
    assert sum(done) == 3
    assert await used(system) == (0, 0, 3, 900)


async def test_a_reservation_is_replaced_released_and_expires(system: IngestSystem) -> None:
    await limit(system, size=1000)
    quotas = system.catalog.quotas
    first = await quotas.reserve(an_id("a"), 0, 60)
    assert await used(system) == (0, 0, 1, 0)
    second = await quotas.reserve(an_id("a"), 900, 60, instead_of=first)
    assert await used(system) == (0, 0, 1, 900)
    with pytest.raises(OverQuota):
        await quotas.reserve(an_id("b"), 200, 60)
    await quotas.release(second)
    await quotas.release(second)
    assert await used(system) == (0, 0, 0, 0)
    await quotas.reserve(an_id("a"), 900, 0)
    await quotas.reserve(an_id("b"), 900, 60)  # the first has expired, although it was not swept
    assert (await system.sweep())["reservations"] == 1


async def test_an_ingest_whose_reservation_expired_is_checked_against_the_limit_again(
    system: IngestSystem,
) -> None:
    await limit(system, size=10**9)

    async def tighten(key: str) -> None:
        if key.endswith("s.json"):
            system.store.before_put = None
            async with system.catalog.transaction() as connection:
                await connection.execute("DELETE FROM quota_reservations")
            await limit(system, size=100)

    system.store.before_put = tighten
    with pytest.raises(OverQuota):
        await system.ingest(Request(an_id("a"), str(a_picture(system, "a"))))
    assert await system.store.keys() == set()
    await system.assert_exact()


async def test_a_failed_ingest_releases_its_reservation(system: IngestSystem) -> None:
    await limit(system, images=5, size=10**9)
    torn = pictures.truncated(system.pictures / "torn.jpg", a_picture(system, "w", 900), 0.4)
    with pytest.raises(Unprocessable):
        await system.ingest(Request(an_id("a"), str(torn)))
    assert await used(system) == (0, 0, 0, 0)


async def test_ingests_whose_original_cannot_be_stored_release_their_reservations(
    system: IngestSystem,
) -> None:
    await limit(system, images=3, size=10**9)

    async def fail(key: str) -> None:
        raise StorageUnavailable("away")

    system.store.before_put = fail
    for _ in range(5):
        with pytest.raises(StorageUnavailable):
            await system.ingest(Request(an_id("a"), str(a_picture(system, "a"))))
        assert await used(system) == (0, 0, 0, 0)
    system.store.before_put = None
    await system.ingest(Request(an_id("a"), str(a_picture(system, "a"))))
    await system.assert_exact()


async def test_a_reservation_is_released_with_the_limits_it_was_made_under(
    system: IngestSystem,
) -> None:
    await limit(system, size=1000)
    first = await system.catalog.quotas.reserve(an_id("a"), 900, 60)
    await limit(system)
    assert await system.catalog.quotas.reserve(an_id("a"), 900, 60, instead_of=first) is None
    assert await used(system) == (0, 0, 0, 0)


async def test_a_folder_picture_over_quota_is_still_served_from_its_original(
    system: IngestSystem,
) -> None:
    await limit(system, size=100)
    await system.register(a_picture(system, "a", 900), "a")
    with pytest.raises(OverQuota):
        await system.pipeline.converter.convert(an_id("a"))
    assert (await system.asset("a")).servable
    assert await system.store.keys() == set()
    await limit(system)
    assert await system.pipeline.converter.convert(an_id("a")) is not None
    await system.assert_exact()


async def test_a_deletion_returns_the_whole_quota_of_the_asset(system: IngestSystem) -> None:
    await system.ingest(Request(an_id("a"), str(a_picture(system, "a"))))
    _, stored, _, _ = await used(system)
    deleted = await system.pipeline.editor.delete(an_id("a"))
    assert (
        deleted.bytes > stored
    )  # the list of sizes is an object that does not count for the quota
    assert await used(system) == (0, 0, 0, 0)


@pytest.mark.parametrize("wrong", [-1, 2**63])
async def test_an_invalid_limit_is_refused(system: IngestSystem, wrong: int) -> None:
    with pytest.raises(InvalidInput):
        await system.catalog.quotas.set_limits(1, max_images=wrong, max_bytes=None)
