"""Work on many items leaves the event loop to other tasks again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator

from orchestrator.loop_turns import in_turns
from tests.support.turn_length import LIMIT_S, longest_turn


def work(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def test_long_work_is_done_in_parts_and_in_order() -> None:
    seen = []
    async with longest_turn() as longest:
        async for item in in_turns(range(60)):
            work(0.002)
            seen.append(item)
    assert seen == list(range(60))
    assert longest.seconds < LIMIT_S


async def test_making_the_items_counts_as_work() -> None:
    def make() -> Iterator[int]:
        for each in range(60):
            work(0.002)
            yield each

    async with longest_turn() as longest:
        assert [each async for each in in_turns(make())] == list(range(60))
    assert longest.seconds < LIMIT_S
