"""The in-memory cache of assets and names: what it keeps, and when it must read again."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.errors import AssetNotFound, CatalogUnavailable
from orchestrator.model import AssetId
from orchestrator.routing.snapshots import Snapshots
from orchestrator.settings import Delivery
from tests.support.builders import an_asset

SAMPLE = AssetId(1, 1, "sample")
OTHER = AssetId(1, 1, "other")


class Catalogue:
    """A catalogue that counts reads, and can fail or wait."""

    def __init__(self) -> None:
        self.assets = {SAMPLE: an_asset()}
        self.reads = 0
        self.is_away = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, asset_id):
        self.reads += 1
        found = self.assets.get(asset_id)
        await self.gate.wait()
        if self.is_away:
            raise CatalogUnavailable("away")
        return found

    async def resolve_alias(self, alias):
        self.reads += 1
        await self.gate.wait()
        if self.is_away:
            raise CatalogUnavailable("away")
        return SAMPLE if alias == "alias" else None

    async def customer_id(self, name):
        self.reads += 1
        if self.is_away:
            raise CatalogUnavailable("away")
        return 7 if name == "acme" else None


class Clock:
    time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def catalogue():
    return Catalogue()


@pytest.fixture
def snapshots(catalogue, clock):
    settings = Delivery(snapshot_ttl_s=600, snapshot_missing_ttl_s=10)
    return Snapshots(catalogue, settings, stale_restricted_s=60, now=clock)


async def test_an_asset_is_read_once_and_kept(snapshots, catalogue):
    for _ in range(3):
        assert (await snapshots.get(SAMPLE)).asset.version == 1
    assert catalogue.reads == 1


async def test_a_thousand_callers_share_one_read(snapshots, catalogue):
    catalogue.gate.clear()
    callers = [asyncio.create_task(snapshots.get(SAMPLE)) for _ in range(1000)]
    await asyncio.sleep(0)
    callers[0].cancel()
    catalogue.gate.set()
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(snapshot.asset.version == 1 for snapshot in found[1:])
    assert catalogue.reads == 1


async def test_a_changed_asset_is_read_again_at_once(snapshots, catalogue):
    await snapshots.get(SAMPLE)
    catalogue.assets[SAMPLE] = an_asset(version=2)
    snapshots.drop(SAMPLE)
    assert (await snapshots.get(SAMPLE)).asset.version == 2


async def test_a_read_during_which_the_asset_changed_is_not_kept(snapshots, catalogue):
    catalogue.gate.clear()
    early = asyncio.create_task(snapshots.get(SAMPLE))
    await asyncio.sleep(0.01)
    catalogue.assets[SAMPLE] = an_asset(version=2)
    snapshots.drop(SAMPLE)
    catalogue.gate.set()
    await early
    assert (await snapshots.get(SAMPLE)).asset.version == 2


async def test_a_missing_asset_is_kept_as_missing_for_a_short_time(snapshots, catalogue, clock):
    missing = AssetId(1, 1, "missing")
    for _ in range(2):
        with pytest.raises(AssetNotFound):
            await snapshots.get(missing)
    assert catalogue.reads == 1
    clock.time += 11
    catalogue.assets[missing] = an_asset(id=missing)
    assert (await snapshots.get(missing)).asset.id == missing


async def test_without_change_notices_every_use_reads_the_catalogue(snapshots, catalogue):
    await snapshots.get(SAMPLE)
    snapshots.on_notices_lost()
    await snapshots.get(SAMPLE)
    await snapshots.get(SAMPLE)
    assert catalogue.reads == 3
    snapshots.on_notices_restored()
    await snapshots.get(SAMPLE)
    await snapshots.get(SAMPLE)
    assert catalogue.reads == 4


async def test_without_the_catalogue_public_assets_are_served_stale(snapshots, catalogue, clock):
    await snapshots.get(SAMPLE)
    catalogue.is_away = True
    clock.time += 601
    snapshot = await snapshots.get(SAMPLE)
    assert snapshot.stale
    assert snapshot.asset.version == 1
    clock.time += 100_000
    assert (await snapshots.get(SAMPLE)).stale


async def test_an_asset_that_cannot_be_read_again_stays_known(snapshots, catalogue):
    await snapshots.get(SAMPLE)
    catalogue.is_away = True
    with pytest.raises(CatalogUnavailable):
        await snapshots.reread(SAMPLE)
    snapshots.on_notices_lost()
    assert (await snapshots.get(SAMPLE)).stale
    catalogue.is_away = False
    catalogue.assets[SAMPLE] = an_asset(version=2)
    assert (await snapshots.reread(SAMPLE)).asset.version == 2


async def test_without_the_catalogue_restricted_assets_are_unavailable_after_a_minute(
    snapshots, catalogue, clock
):
    catalogue.assets[SAMPLE] = an_asset(roles=("staff",))
    await snapshots.get(SAMPLE)
    catalogue.is_away = True
    snapshots.on_notices_lost()
    clock.time += 59
    assert (await snapshots.get(SAMPLE)).stale
    clock.time += 2
    with pytest.raises(CatalogUnavailable):
        await snapshots.get(SAMPLE)


async def test_without_the_catalogue_unknown_assets_are_unavailable_not_missing(
    snapshots, catalogue
):
    catalogue.is_away = True
    with pytest.raises(CatalogUnavailable):
        await snapshots.get(SAMPLE)


async def test_aliases_and_customers_are_kept_until_they_may_have_changed(
    snapshots, catalogue, clock
):
    async def reads() -> int:
        before = catalogue.reads
        assert await snapshots.names.asset_of_alias("alias") == SAMPLE
        assert await snapshots.names.asset_of_alias("none") is None
        assert await snapshots.names.customer_of_name("acme") == 7
        return catalogue.reads - before

    assert [await reads(), await reads()] == [3, 0]
    snapshots.drop(OTHER)
    assert await reads() == 1, "an unknown alias may belong to the changed asset now"
    snapshots.drop(SAMPLE)
    assert await reads() == 2, "an alias changes with its asset"
    clock.time += 11
    assert [await reads(), await reads()] == [3, 0]
    snapshots.on_notices_lost()
    assert [await reads(), await reads()] == [3, 3]
    snapshots.on_notices_restored()
    assert [await reads(), await reads()] == [3, 0]


async def test_an_alias_whose_asset_changed_during_the_read_is_read_again(snapshots, catalogue):
    catalogue.gate.clear()
    early = asyncio.create_task(snapshots.names.asset_of_alias("alias"))
    await asyncio.sleep(0)
    snapshots.drop(SAMPLE)
    catalogue.gate.set()
    await early
    await snapshots.names.asset_of_alias("alias")
    assert catalogue.reads == 2


async def test_without_the_catalogue_a_name_keeps_its_last_meaning(snapshots, catalogue, clock):
    await snapshots.names.asset_of_alias("alias")
    await snapshots.names.asset_of_alias("none")
    await snapshots.names.customer_of_name("acme")
    catalogue.is_away = True
    snapshots.drop(OTHER)
    snapshots.on_notices_lost()
    clock.time += 1000
    assert await snapshots.names.asset_of_alias("alias") == SAMPLE
    assert await snapshots.names.asset_of_alias("none") is None
    assert await snapshots.names.customer_of_name("acme") == 7
    with pytest.raises(CatalogUnavailable):
        await snapshots.names.asset_of_alias("another")
    snapshots.drop(SAMPLE)
    with pytest.raises(CatalogUnavailable):
        await snapshots.names.asset_of_alias("alias")


async def test_a_change_of_another_asset_does_not_discard_a_running_read(snapshots, catalogue):
    catalogue.gate.clear()
    early = asyncio.create_task(snapshots.get(SAMPLE))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    snapshots.drop(OTHER)
    catalogue.gate.set()
    await early
    await snapshots.get(SAMPLE)
    assert catalogue.reads == 1


async def test_a_read_that_began_before_notices_were_lost_answers_no_later_caller(
    snapshots, catalogue
):
    catalogue.gate.clear()
    early = asyncio.create_task(snapshots.get(SAMPLE))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    snapshots.on_notices_lost()
    catalogue.assets[SAMPLE] = an_asset(version=2)
    snapshots.on_notices_restored()
    later = asyncio.create_task(snapshots.get(SAMPLE))
    await asyncio.sleep(0)
    catalogue.gate.set()
    assert (await later).asset.version == 2
    await early
    assert (await snapshots.get(SAMPLE)).asset.version == 2


async def test_the_minute_begins_when_notices_stop_and_not_when_the_asset_was_read(
    snapshots, catalogue, clock
):
    catalogue.assets[SAMPLE] = an_asset(roles=("staff",))
    await snapshots.get(SAMPLE)
    clock.time += 500
    catalogue.is_away = True
    snapshots.on_notices_lost()
    clock.time += 59
    assert (await snapshots.get(SAMPLE)).stale


async def test_an_asset_without_a_source_is_missing_until_it_has_one(snapshots, catalogue):
    catalogue.assets[SAMPLE] = an_asset(source=None, width=0, height=0)
    with pytest.raises(AssetNotFound):
        await snapshots.get(SAMPLE)
    catalogue.is_away = True
    snapshots.on_notices_lost()
    with pytest.raises(AssetNotFound):
        await snapshots.get(SAMPLE)
    catalogue.is_away = False
    catalogue.assets[SAMPLE] = an_asset()
    assert (await snapshots.get(SAMPLE)).asset.servable
