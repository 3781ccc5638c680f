"""Turns, waits and verdicts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as some

from orchestrator.backoff import backoff_s
from orchestrator.catalog.jobs import Job
from orchestrator.errors import (
    CatalogUnavailable,
    NoRoom,
    OriginUnavailable,
    Overloaded,
    OverQuota,
    StorageUnavailable,
    Unprocessable,
    fault_of,
)
from orchestrator.jobs.fairness import Turns
from orchestrator.jobs.retry_decision import Again, Failed, verdict
from orchestrator.jobs.submitter import host_of

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=30)


def a_job(attempts: int = 1, age: timedelta = timedelta(0)) -> Job:
    job = Job(1, "k", "normal", 1, "", "", None, {}, "running", attempts, NOW, "w", None, LONG_AGO)
    return replace(job, begun=NOW - age)


def test_four_turns_of_priority_to_one_of_normal_and_never_more_between() -> None:
    turns = Turns()
    firsts = [turns.next()[0] for _ in range(100)]
    assert Counter(firsts) == {"priority": 80, "normal": 20}
    assert all("normal" in firsts[at : at + 5] for at in range(95))


@given(some.integers(-5, 10_000), some.floats(0, 1))
def test_a_wait_is_never_longer_than_said_nor_none_at_all(tries: int, dice: float) -> None:
    wait_s = backoff_s(tries, first_s=0.2, longest_s=10, jitter=lambda: dice)
    assert 0.1 <= wait_s <= 10


def test_waits_grow() -> None:
    waits = [
        backoff_s(n, first_s=5, longest_s=600, factor=4, jitter=lambda: 0) for n in range(1, 7)
    ]
    assert waits == [5, 20, 80, 320, 600, 600]


AGAIN, FREE, FAILED = Again(is_counted=True), Again(is_counted=False), Failed()
DEAD_ORIGIN = OriginUnavailable("404", retryable=False)
VERDICTS = {
    "first time-out": (OriginUnavailable("slow"), a_job(1), AGAIN),
    "last time-out": (OriginUnavailable("slow"), a_job(5), FAILED),
    "missing origin": (DEAD_ORIGIN, a_job(1), FAILED),
    "broken image": (Unprocessable("broken"), a_job(1), FAILED),
    "over quota": (OverQuota("full"), a_job(1), FAILED),
    "bug": (KeyError("oops"), a_job(4), AGAIN),
    "bug for the fifth time": (KeyError("oops"), a_job(5), FAILED),
    "no database": (CatalogUnavailable("away"), a_job(5), FREE),
    "no store": (StorageUnavailable("away"), a_job(99), FREE),
    "pool full": (Overloaded("busy"), a_job(5), FREE),
    "disk full": (NoRoom("full"), a_job(5), FREE),
    "no store for days": (StorageUnavailable("away"), a_job(5, timedelta(days=2)), FAILED),
    "no store for days, early": (StorageUnavailable("away"), a_job(2, timedelta(days=2)), AGAIN),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_verdicts(name: str) -> None:
    error, job, expected = VERDICTS[name]
    assert verdict(error, fault_of(error, "fetch"), job, 5, NOW) == expected


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://User:pw@Images.Example:8443/a.tif", "images.example"),
        ("s3://bucket/key", "bucket"),
        ("sftp://h/x", "h"),
        ("/a/b.jpg", ""),
        ("file:///a/b.jpg", ""),
        ("http://[::1/x", ""),
        ("", ""),
    ],
)
def test_the_host_an_origin_is_read_from(origin: str, host: str) -> None:
    assert host_of(origin) == host
