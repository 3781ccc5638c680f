"""The simulated cache: bytes within the quota, what a scan may evict, and who is evicted first."""

from __future__ import annotations

import random

import pytest

from orchestrator.scavenger.simulated_cache import SimulatedCache
from orchestrator.scavenger.traces import LongTail

SIZES = {key: 1 + key * 7919 % 50 for key in range(500)}
each_policy = pytest.mark.parametrize("policy", ["lru", "s3-fifo"])


@each_policy
def test_the_cache_never_holds_more_than_its_quota_and_hits_exactly_what_it_holds(
    policy: str,
) -> None:
    dice, cache = random.Random(7), SimulatedCache(policy, 1000)
    for at in range(5000):
        key = int(dice.paretovariate(0.5)) % 500
        before = cache.sizes
        assert cache.request(at, key, SIZES[key]) == (str(key) in before)
        assert sum(cache.sizes.values()) <= 1000


@each_policy
def test_a_file_larger_than_the_quota_is_not_kept_and_evicts_nothing(policy: str) -> None:
    cache = SimulatedCache(policy, 1000)
    cache.request(0, 1, 10)
    assert not cache.request(1, 2, 1001)
    assert not cache.request(2, 2, 1001)
    assert cache.request(3, 1, 10)


@each_policy
def test_files_that_fit_are_missed_only_once(policy: str) -> None:
    cache = SimulatedCache(policy, 1000)
    hits = [cache.request(at, at % 9, 10) for at in range(90)]
    assert hits == [False] * 9 + [True] * 81


def test_lru_evicts_the_least_recently_used() -> None:
    cache = SimulatedCache("lru", 30)
    for at, key in enumerate((1, 2, 3, 1, 4)):
        cache.request(at, key, 10)
    assert set(cache.sizes) == {"1", "3", "4"}


def test_s3_fifo_puts_an_entry_that_comes_back_into_the_main_queue() -> None:
    cache = SimulatedCache("s3-fifo", 60, settle_s=0)
    for key in range(11):
        cache.request(key, key, 6)
    assert set(cache.sizes) == {str(key) for key in range(1, 11)}, "the first one was evicted"
    assert not cache.request(20, 0, 6)
    for key in range(100, 120):
        cache.request(key, key, 6)
    assert cache.request(200, 0, 6), "a scan of twice the quota did not evict it"


def test_uses_of_the_same_visit_do_not_count() -> None:
    cache = SimulatedCache("s3-fifo", 100, settle_s=30)
    for at in range(20):
        cache.request(at, 1, 10)
    for key in range(100, 120):
        cache.request(key, key, 10)
    assert not cache.request(200, 1, 10)


def test_crawlers_lower_the_hit_ratio_of_lru_more_than_that_of_s3_fifo() -> None:
    def hits(policy: str) -> int:
        cache = SimulatedCache(policy, 20_000_000)
        return sum(cache.request(*each) for each in LongTail(40_000, 100_000).read())

    assert hits("s3-fifo") > 1.2 * hits("lru")
