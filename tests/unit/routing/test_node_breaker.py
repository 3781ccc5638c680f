"""The circuit breaker of one image server."""

from __future__ import annotations

from orchestrator.routing.image_servers.node_breaker import FAILURES_TO_OPEN, OPEN_S, NodeBreaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> NodeBreaker:
    breaker = NodeBreaker(clock)
    assert [breaker.on_failure() for _ in range(FAILURES_TO_OPEN)] == [False, False, True]
    return breaker


def test_failures_in_succession_open_it_once() -> None:
    breaker = opened(Clock())
    assert breaker.is_open
    assert not breaker.on_failure()


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = NodeBreaker(Clock())
    for _ in range(5):
        breaker.on_failure()
        breaker.on_failure()
        assert not breaker.on_success()
    assert not breaker.is_open


def test_it_half_opens_for_one_request_at_a_time() -> None:
    clock = Clock()
    breaker = opened(clock)
    assert not breaker.may_probe
    clock.now += OPEN_S
    assert breaker.may_probe
    breaker.on_probe()
    assert not breaker.may_probe
    breaker.on_failure()
    clock.now += OPEN_S
    assert breaker.may_probe


def test_the_first_success_closes_it() -> None:
    breaker = opened(Clock())
    assert breaker.on_success()
    assert not breaker.is_open
    assert not breaker.may_probe
    assert not breaker.on_failure(), "it counts from zero again"
