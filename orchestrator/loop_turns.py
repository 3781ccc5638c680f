"""Long work on the event loop, in parts: other tasks of the process run between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

LONGEST_S = 0.005
"""Seconds that other requests wait at most for a part, besides the making of one item."""

T = TypeVar("T")


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, in their order. When making and using them has taken 5 ms, other tasks run before
    the next one.
    """
    began = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - began > LONGEST_S:
            await asyncio.sleep(0)
            began = time.perf_counter()
