"""The rotation of lanes, waits between tries, and retry decisions."""

from __future__ import annotations

import os
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
from orchestrator.jobs.fairness import LaneRotation
from orchestrator.jobs.retry_decision import GiveUp, Retry, decide_retry
from orchestrator.jobs.submitter import host_of
from orchestrator.jobs.worker_options import WorkerOptions, conversions_at_once
from orchestrator.settings import Ingest, Jobs, Settings

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=30)


def a_job(attempts: int = 1, age: timedelta = timedelta(0)) -> Job:
    job = Job(1, "k", "normal", 1, "", "", None, {}, "running", attempts, NOW, "w", None, LONG_AGO)
    return replace(job, begun=NOW - age)


def test_the_normal_lane_is_first_in_every_fifth_claim() -> None:
    rotation = LaneRotation()
    firsts = [rotation.next()[0] for _ in range(100)]
    assert Counter(firsts) == {"priority": 80, "normal": 20}
    assert all("normal" in firsts[at : at + 5] for at in range(95))


def test_by_default_an_instance_converts_an_image_on_each_core_while_others_are_fetched() -> None:
    settings, cores = Settings(), os.cpu_count() or 1
    assert conversions_at_once(settings) == cores
    assert WorkerOptions.of(settings).slots == cores + settings.jobs.fetches
    assert conversions_at_once(Settings(ingest=Ingest(workers=cores + 1))) == cores + 1
    assert conversions_at_once(Settings(jobs=Jobs(workers=cores + 2))) == cores + 2


@given(some.integers(-5, 10_000), some.floats(0, 1))
def test_a_wait_is_between_half_the_first_and_the_longest(tries: int, dice: float) -> None:
    wait_s = backoff_s(tries, first_s=0.2, longest_s=10, jitter=lambda: dice)
    assert 0.1 <= wait_s <= 10


def test_waits_grow_fourfold_up_to_the_longest() -> None:
    waits = [
        backoff_s(n, first_s=5, longest_s=600, factor=4, jitter=lambda: 0) for n in range(1, 7)
    ]
    assert waits == [5, 20, 80, 320, 600, 600]


RETRY, FREE, GIVE_UP = Retry(is_counted=True), Retry(is_counted=False), GiveUp()
DEAD_ORIGIN = OriginUnavailable("404", retryable=False)
DECISIONS = {
    "first time-out": (OriginUnavailable("slow"), a_job(1), RETRY),
    "last time-out": (OriginUnavailable("slow"), a_job(5), GIVE_UP),
    "missing origin": (DEAD_ORIGIN, a_job(1), GIVE_UP),
    "broken image": (Unprocessable("broken"), a_job(1), GIVE_UP),
    "over quota": (OverQuota("full"), a_job(1), GIVE_UP),
    "bug": (KeyError("oops"), a_job(4), RETRY),
    "bug for the fifth time": (KeyError("oops"), a_job(5), GIVE_UP),
    "no database": (CatalogUnavailable("away"), a_job(5), FREE),
    "no store": (StorageUnavailable("away"), a_job(99), FREE),
    "pool full": (Overloaded("busy"), a_job(5), FREE),
    "disk full": (NoRoom("full"), a_job(5), FREE),
    "no store for days": (StorageUnavailable("away"), a_job(5, timedelta(days=2)), GIVE_UP),
    "no store for days, early": (StorageUnavailable("away"), a_job(2, timedelta(days=2)), RETRY),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_errors_and_attempts_decide_about_a_retry(name: str) -> None:
    error, job, expected = DECISIONS[name]
    assert decide_retry(error, fault_of(error, "fetch"), job, 5, NOW) == expected


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
