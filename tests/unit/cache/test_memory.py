"""The hot tier: budget, eviction order, and entries refused after a drop."""

from __future__ import annotations

import asyncio
import time
import weakref
from dataclasses import dataclass

import pytest

from orchestrator.cache.hot.tier import ENTRY_OVERHEAD, HotTier, free_in_parts
from tests.support.turn_length import LIMIT_S, longest_turn


@dataclass(frozen=True, slots=True)
class Entry:
    asset: str
    body: bytes

    @property
    def size(self) -> int:
        return len(self.body)


def entry(asset: str = "1/1/a", size: int = 1000) -> Entry:
    return Entry(asset, bytes(size))


@pytest.fixture
def tier() -> HotTier[Entry]:
    return HotTier[Entry](3 * (1000 + ENTRY_OVERHEAD), max_entry=1500)


def test_a_stored_entry_is_returned_for_its_key(tier: HotTier[Entry]) -> None:
    stored = entry()
    assert tier.put(("host", "/a"), stored, tier.token())
    assert tier.get(("host", "/a")) is stored
    assert tier.get(("other", "/a")) is None


def test_the_least_recently_used_entry_is_evicted_when_the_budget_is_full(
    tier: HotTier[Entry],
) -> None:
    for name in "abc":
        tier.put(name, entry(), tier.token())
    tier.get("a")
    tier.put("d", entry(), tier.token())
    assert [name for name in "abcd" if tier.get(name)] == ["a", "c", "d"]
    assert tier.stats().evicted == 1


def test_the_bytes_never_exceed_the_budget(tier: HotTier[Entry]) -> None:
    for number in range(100):
        tier.put(number, entry(size=number * 13 % 1500), tier.token())
        assert tier.stats().bytes <= tier.stats().quota


def test_an_entry_over_the_largest_size_is_refused(tier: HotTier[Entry]) -> None:
    assert not tier.put("a", entry(size=1501), tier.token())
    assert tier.stats().refused == 1


def test_a_budget_of_zero_turns_the_tier_off() -> None:
    tier = HotTier[Entry](0, max_entry=1500)
    assert not tier.put("a", entry(), tier.token())


def test_replacing_an_entry_counts_its_bytes_once(tier: HotTier[Entry]) -> None:
    tier.put("a", entry(size=1000), tier.token())
    tier.put("a", entry(size=10), tier.token())
    assert tier.stats().bytes == 10 + ENTRY_OVERHEAD
    assert len(tier) == 1


def test_dropping_an_asset_removes_its_entries_and_no_other(tier: HotTier[Entry]) -> None:
    tier.put("a1", entry("1/1/a", 10), tier.token())
    tier.put("a2", entry("1/1/a", 10), tier.token())
    tier.put("b1", entry("1/1/b", 10), tier.token())
    assert tier.drop_asset("1/1/a") == 2
    assert tier.get("a1") is None
    assert tier.get("b1") is not None
    assert tier.stats().bytes == 10 + ENTRY_OVERHEAD


def test_an_entry_rendered_before_its_asset_was_dropped_does_not_enter(
    tier: HotTier[Entry],
) -> None:
    token = tier.token()
    tier.drop_asset("1/1/a")
    assert not tier.put("a", entry("1/1/a"), token)
    assert tier.put("b", entry("1/1/b"), token)
    assert tier.put("a", entry("1/1/a"), tier.token())


def test_an_entry_rendered_before_the_tier_was_cleared_does_not_enter(tier: HotTier[Entry]) -> None:
    tier.put("a", entry(), tier.token())
    token = tier.token()
    tier.clear()
    assert not tier.put("b", entry("1/1/b"), token)
    assert len(tier) == 0
    assert tier.stats().bytes == 0


class Slow(Entry):
    """An entry that takes processor time to free, as one whose body is a file in memory."""

    __slots__ = ("__weakref__",)

    def __del__(self) -> None:
        until = time.thread_time() + 20e-6
        while time.thread_time() < until:
            pass


async def test_a_cleared_tier_is_empty_at_once_and_frees_its_entries_in_parts() -> None:
    tier = HotTier[Slow](10**7, max_entry=1500)
    left = weakref.WeakSet[Slow]()
    for number in range(2000):
        stored = Slow(f"1/1/{number}", b"")
        left.add(stored)
        tier.put(number, stored, tier.token())
    del stored
    async with longest_turn() as longest:
        free_in_parts(tier.clear())
        assert len(tier) == 0
        while left:
            await asyncio.sleep(0)
    assert longest.seconds < LIMIT_S


def test_the_memory_for_drops_is_bounded_and_old_entries_are_refused() -> None:
    tier = HotTier[Entry](10**6, max_entry=1500)
    token = tier.token()
    for number in range(50_000):
        tier.drop_asset(f"1/1/{number}")
    assert len(tier._dropped_at) <= 20_000
    assert not tier.put("old", entry("1/1/3"), token)
    assert tier.put("new", entry("1/1/3"), tier.token())
