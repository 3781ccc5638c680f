"""A repeated fault is logged when it begins, once a minute, and when it ends."""

from __future__ import annotations

import logging

import pytest

from orchestrator.fault_log import FaultLog

log = logging.getLogger("test")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def faults(clock: Clock, caplog: pytest.LogCaptureFixture) -> FaultLog:
    caplog.set_level(logging.INFO)
    return FaultLog(log, "work failed", "work done again", now=clock)


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


def test_a_fault_of_five_minutes_each_two_seconds_is_five_lines_and_one_for_its_end(
    faults: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(150):
        faults.report(reason="away")
        clock.now += 2
    faults.clear()
    assert events(caplog) == ["work failed"] * 5 + ["work done again"]
    assert vars(caplog.records[1])["times"] == 31
    assert vars(caplog.records[1])["since_s"] == 60
    assert vars(caplog.records[-1])["lasted_s"] == 300


def test_a_success_without_a_fault_is_not_logged(
    faults: FaultLog, caplog: pytest.LogCaptureFixture
) -> None:
    faults.clear()
    assert events(caplog) == []


def test_a_fault_that_comes_and_goes_is_logged_once_a_minute(
    faults: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(30):
        faults.report(reason="away")
        faults.clear()
        clock.now += 1
    assert events(caplog) == ["work failed", "work done again"]
    clock.now += 31
    faults.report(reason="away")
    assert events(caplog)[2:] == ["work failed"]


def test_things_are_logged_separately(faults: FaultLog, caplog: pytest.LogCaptureFixture) -> None:
    faults.report("a", cache="a")
    faults.report("b", cache="b")
    faults.clear("a", cache="a")
    assert [vars(record)["cache"] for record in caplog.records] == ["a", "b", "a"]


def test_a_bug_is_an_error_with_its_traceback(
    faults: FaultLog, caplog: pytest.LogCaptureFixture
) -> None:
    faults.report(bug=ValueError("x"))
    assert caplog.records[0].levelname == "ERROR"
    assert caplog.records[0].exc_info
