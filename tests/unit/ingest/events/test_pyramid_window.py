"""When pyramids are made."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.ingest.events.pyramid_window import PyramidWindow
from orchestrator.settings import Pyramids

HOUR = 3600.0
NEW_YORK = "America/New_York"


def closed_s(time: str, schedule: str = "30 5 * * *", window_s: float = HOUR) -> float:
    """Seconds until the window opens, at this time (UTC)."""
    settings = Pyramids(schedule=schedule, time_zone=NEW_YORK, window_s=window_s)
    now = datetime.fromisoformat(time).replace(tzinfo=UTC)
    return PyramidWindow(settings, lambda: now).closed_s()


def test_without_a_schedule_the_window_is_always_open() -> None:
    assert PyramidWindow(Pyramids()).closed_s() == 0


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("2026-01-10T10:29:59", 1),  # 5:29:59 in winter
        ("2026-01-10T10:30:00", 0),
        ("2026-01-10T10:30:00.4", 0),
        ("2026-01-10T11:29:59", 0),
        ("2026-01-10T11:30:00", 23 * HOUR),
        ("2026-07-10T09:29:00", 60),  # an hour earlier in summer
        ("2026-07-10T09:30:00", 0),
        ("2026-07-10T10:30:00", 23 * HOUR),
    ],
)
def test_the_window_opens_at_its_local_time_and_closes(time: str, seconds: float) -> None:
    assert closed_s(time) == seconds


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("2026-03-07T12:00:00", 21.5 * HOUR),  # the night in which the clock is put forward
        ("2026-10-31T12:00:00", 22.5 * HOUR),  # and back
    ],
)
def test_the_night_of_a_clock_change_is_shorter_or_longer(time: str, seconds: float) -> None:
    assert closed_s(time) == seconds


def test_a_time_that_the_clock_leaves_out_opens_the_window_after_the_change() -> None:
    def night(time: str) -> float:
        return closed_s(f"2026-03-08T{time}", "30 2 * * *")

    assert night("06:59:00") == 60  # 1:59 in winter time; the next minute is 3:00 in summer time
    assert night("07:00:00") == 0
    assert night("07:59:59") == 0
    assert night("08:00:00") == pytest.approx(22.5 * HOUR)


def test_a_time_that_the_clock_repeats_opens_the_window_once() -> None:
    def night(time: str) -> float:
        return closed_s(f"2026-11-01T{time}", "30 1 * * *", HOUR / 2)

    assert night("05:30:00") == 0
    assert night("05:59:59") == 0
    assert night("06:00:00") == 24.5 * HOUR  # 1:00 for the second time
    assert night("06:30:00") == 24 * HOUR


def test_a_window_may_be_longer_than_the_time_between_openings() -> None:
    assert closed_s("2026-01-10T12:34:56", "0 * * * *", 2 * HOUR) == 0
