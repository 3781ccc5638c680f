"""Eviction policies: bytes within the quota, what scans may do to them, and who leaves first."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from orchestrator.scavenger.simulated_policies import POLICIES, Lru, S3Fifo, Sieve, Simulated
from orchestrator.scavenger.traces import LongTail

SIZES = {key: 1 + key * 7919 % 50 for key in range(500)}
each_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))


def there(cache: Simulated) -> set[int]:
    """The keys a cache has, found by looking into it (asking would change it)."""
    held: set[int] = set()
    for value in vars(cache).values():
        entries = getattr(value, "sizes", value)
        if isinstance(entries, dict) and value is not vars(cache).get("_ghosts"):
            held |= set(entries)
    return held


@each_policy
def test_what_is_held_never_takes_more_than_the_quota_and_asking_tells_what_is_held(
    policy: Callable[[int], Simulated],
) -> None:
    dice, cache = random.Random(7), policy(1000)
    for at in range(20_000):
        key = int(dice.paretovariate(0.5)) % 500
        before = there(cache)
        assert cache.ask(at, key, SIZES[key]) == (key in before)
        assert sum(SIZES[each] for each in there(cache)) <= 1000


@each_policy
def test_what_is_larger_than_the_quota_is_not_kept_and_pushes_nothing_out(
    policy: Callable[[int], Simulated],
) -> None:
    cache = policy(1000)
    cache.ask(0, 1, 10)
    assert not cache.ask(1, 2, 1001)
    assert not cache.ask(2, 2, 1001)
    assert cache.ask(3, 1, 10)


@each_policy
def test_what_fits_is_only_missed_once(policy: Callable[[int], Simulated]) -> None:
    cache = policy(1000)
    hits = [cache.ask(at, at % 9, 10) for at in range(90)]
    assert hits == [False] * 9 + [True] * 81


def test_lru_lets_the_least_recently_used_go() -> None:
    cache = Lru(30)
    for key in (1, 2, 3, 1, 4):
        cache.ask(0, key, 10)
    assert there(cache) == {1, 3, 4}


def test_sieve_spares_what_was_used_since_the_hand_came_by() -> None:
    cache = Sieve(30)
    for key in (1, 2, 3, 1, 4, 5):
        cache.ask(0, key, 10)
    assert there(cache) == {1, 4, 5}


def test_s3_fifo_brings_who_comes_back_into_the_main_queue() -> None:
    cache = S3Fifo(100, settle_s=0)
    for key in range(11):
        cache.ask(key, key, 10)
    assert there(cache) == set(range(1, 11)), "the first of the small queue went"
    assert not cache.ask(20, 0, 10)
    for key in range(100, 120):
        cache.ask(key, key, 10)
    assert cache.ask(200, 0, 10), "a scan of twice the quota did not push it out"


def test_uses_of_the_same_visit_do_not_count() -> None:
    cache = S3Fifo(100, settle_s=30)
    for at in range(20):
        cache.ask(at, 1, 10)
    for key in range(100, 120):
        cache.ask(key, key, 10)
    assert not cache.ask(200, 1, 10)


@pytest.mark.parametrize("name", ["s3-fifo", "sieve", "w-tinylfu"])
def test_crawlers_spoil_lru_more_than(name: str) -> None:
    def hits(policy: Callable[[int], Simulated]) -> int:
        cache = policy(20_000_000)
        return sum(cache.ask(*each) for each in LongTail(100_000, 100_000).read())

    assert hits(POLICIES[name]) > 1.2 * hits(Lru)
