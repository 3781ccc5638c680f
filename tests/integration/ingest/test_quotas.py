"""Quotas: an ingest reserves at its start, the last transaction settles the difference, a failure
releases. Concurrent ingests cannot exceed a limit, and a refused ingest leaves nothing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.errors import InvalidInput, OverQuota, StorageUnavailable, Unprocessable
from orchestrator.ingest.register import Request
from orchestrator.model import AssetId, AssetState
from tests.support import pictures
from tests.support.ingesting import House
from tests.support.origins import OriginServer

pytestmark = pytest.mark.asyncio(loop_scope="module")


def an_id(name: object) -> AssetId:
    return AssetId(1, 1, str(name))


async def limit(house: House, images: int | None = None, size: int | None = None) -> None:
    await house.catalog.quotas.set_limits(1, max_images=images, max_bytes=size)


async def used(house: House) -> tuple[int, int, int, int]:
    use = await house.catalog.quotas.get(1)
    return use.images, use.stored, use.reserved_images, use.reserved_bytes


def a_picture(house: House, name: str, width: int = 120, seed: int = 0) -> Path:
    return pictures.jpeg(house.pictures / f"{name}.jpg", width, 80, seed=seed)


async def test_a_customer_without_limits_still_has_a_storage_account(house: House) -> None:
    assert await used(house) == (0, 0, 0, 0)
    await house.ingest(Request(an_id("a"), str(a_picture(house, "a"))))
    images, stored, _, _ = await used(house)
    assert images == 1
    assert stored > 1000
    await house.assert_exact()


async def test_an_ingest_over_quota_leaves_no_objects_and_records_the_reason(
    house: House,
) -> None:
    await limit(house, size=2000)
    with pytest.raises(OverQuota, match="2000 bytes"):
        await house.ingest(Request(an_id("a"), str(a_picture(house, "a", 900))))
    asset = await house.asset("a")
    assert (asset.state, asset.servable) == (AssetState.FAILED, False)
    assert "size limit" in asset.error
    [attempt] = await house.catalog.attempts.of(an_id("a"))
    assert attempt.fault is not None
    assert (attempt.fault.code, attempt.fault.stage) == ("over_quota", "store")
    assert not attempt.fault.retryable
    assert house.store.log == []
    assert await house.ledger() == {}
    assert await used(house) == (0, 0, 0, 0)
    assert house.scratch() == []


async def test_a_full_account_refuses_new_images_without_a_request_to_the_origin(
    house: House, origin: OriginServer
) -> None:
    await house.ingest(Request(an_id("a"), str(a_picture(house, "a"))))
    _, stored, _, _ = await used(house)
    origin.files["/b.jpg"] = a_picture(house, "b").read_bytes()
    for images, size in ((1, None), (None, stored), (0, 0)):
        await limit(house, images, size)
        with pytest.raises(OverQuota):
            await house.ingest(Request(an_id("b"), origin.url("/b.jpg")))
    assert origin.requests == []
    await house.assert_exact()


async def test_over_the_limit_a_reingest_can_shrink_but_not_grow(
    house: House,
) -> None:
    path = a_picture(house, "a", 900)
    large = (await house.ingest(Request(an_id("a"), str(path)))).asset
    _, before, _, _ = await used(house)
    await limit(house, images=0, size=10)
    a_picture(house, "a", 100, seed=1)
    small = (await house.ingest(Request(an_id("a"), str(path)))).asset
    assert small.version > large.version
    _, after, _, _ = await used(house)
    assert after < before
    a_picture(house, "a", 900, seed=2)
    with pytest.raises(OverQuota):
        await house.ingest(Request(an_id("a"), str(path)))
    asset = await house.asset("a")
    assert (asset.version, asset.state) == (small.version, AssetState.READY)
    assert "size limit" in asset.error
    await house.assert_exact()


async def test_concurrent_ingests_do_not_exceed_the_limit_together(house: House) -> None:
    await house.ingest(Request(an_id("probe"), str(a_picture(house, "probe"))))
    _, one, _, _ = await used(house)
    await limit(house, size=one * 4 + one // 2)  # the first and three more
    requests = [
        Request(an_id(n), str(a_picture(house, f"race{n}", 120, seed=0))) for n in range(10)
    ]
    done = await asyncio.gather(
        *(house.ingest(request) for request in requests), return_exceptions=True
    )
    refused = [error for error in done if isinstance(error, OverQuota)]
    assert len(refused) == 7
    images, stored, held_images, held = await used(house)
    assert (images, held_images, held) == (4, 0, 0)
    assert stored <= one * 4 + one // 2
    await house.assert_exact()


async def test_one_of_several_concurrent_reservations_gets_the_last_place(house: House) -> None:
    await limit(house, images=3, size=1000)
    quotas = house.catalog.quotas

    async def reserve(n: int) -> bool:
        try:
            return await quotas.reserve(an_id(n), 300, 60) is not None
        except OverQuota:
            return False

    done = await asyncio.gather(*(reserve(n) for n in range(20)))
    assert sum(done) == 3
    assert await used(house) == (0, 0, 3, 900)


async def test_a_reservation_is_replaced_released_and_expires(house: House) -> None:
    await limit(house, size=1000)
    quotas = house.catalog.quotas
    first = await quotas.reserve(an_id("a"), 0, 60)
    assert await used(house) == (0, 0, 1, 0)
    second = await quotas.reserve(an_id("a"), 900, 60, instead_of=first)
    assert await used(house) == (0, 0, 1, 900)
    with pytest.raises(OverQuota):
        await quotas.reserve(an_id("b"), 200, 60)
    await quotas.release(second)
    await quotas.release(second)
    assert await used(house) == (0, 0, 0, 0)
    await quotas.reserve(an_id("a"), 900, 0)
    await quotas.reserve(an_id("b"), 900, 60)  # the first has expired, although it was not swept
    assert (await house.sweep())["reservations"] == 1


async def test_an_ingest_whose_reservation_expired_is_checked_against_the_limit_again(
    house: House,
) -> None:
    await limit(house, size=10**9)

    async def tighten(key: str) -> None:
        if key.endswith("s.json"):
            house.store.before_put = None
            async with house.catalog.transaction() as connection:
                await connection.execute("DELETE FROM quota_reservations")
            await limit(house, size=100)

    house.store.before_put = tighten
    with pytest.raises(OverQuota):
        await house.ingest(Request(an_id("a"), str(a_picture(house, "a"))))
    assert await house.store.keys() == set()
    await house.assert_exact()


async def test_a_failed_ingest_releases_its_reservation(house: House) -> None:
    await limit(house, images=5, size=10**9)
    torn = pictures.truncated(house.pictures / "torn.jpg", a_picture(house, "w", 900), 0.4)
    with pytest.raises(Unprocessable):
        await house.ingest(Request(an_id("a"), str(torn)))
    assert await used(house) == (0, 0, 0, 0)


async def test_ingests_whose_original_cannot_be_stored_release_their_reservations(
    house: House,
) -> None:
    await limit(house, images=3, size=10**9)

    async def fail(key: str) -> None:
        raise StorageUnavailable("away")

    house.store.before_put = fail
    for _ in range(5):
        with pytest.raises(StorageUnavailable):
            await house.ingest(Request(an_id("a"), str(a_picture(house, "a"))))
        assert await used(house) == (0, 0, 0, 0)
    house.store.before_put = None
    await house.ingest(Request(an_id("a"), str(a_picture(house, "a"))))
    await house.assert_exact()


async def test_a_reservation_is_released_with_the_limits_it_was_made_under(house: House) -> None:
    await limit(house, size=1000)
    first = await house.catalog.quotas.reserve(an_id("a"), 900, 60)
    await limit(house)
    assert await house.catalog.quotas.reserve(an_id("a"), 900, 60, instead_of=first) is None
    assert await used(house) == (0, 0, 0, 0)


async def test_a_folder_picture_over_quota_is_still_served_from_its_original(house: House) -> None:
    await limit(house, size=100)
    await house.register(a_picture(house, "a", 900), "a")
    with pytest.raises(OverQuota):
        await house.pipeline.converter.convert(an_id("a"))
    assert (await house.asset("a")).servable
    assert await house.store.keys() == set()
    await limit(house)
    assert await house.pipeline.converter.convert(an_id("a")) is not None
    await house.assert_exact()


async def test_a_deletion_returns_the_whole_quota_of_the_asset(house: House) -> None:
    await house.ingest(Request(an_id("a"), str(a_picture(house, "a"))))
    _, stored, _, _ = await used(house)
    deleted = await house.pipeline.editor.delete(an_id("a"))
    assert (
        deleted.bytes > stored
    )  # the list of sizes is an object that does not count for the quota
    assert await used(house) == (0, 0, 0, 0)


@pytest.mark.parametrize("wrong", [-1, 2**63])
async def test_an_invalid_limit_is_refused(house: House, wrong: int) -> None:
    with pytest.raises(InvalidInput):
        await house.catalog.quotas.set_limits(1, max_images=wrong, max_bytes=None)
