"""Slots that customers take turns at: the one that was served longest ago is next."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cachetools import LRUCache

_MAX_CUSTOMERS = 10_000


class FairSlots:
    """A number of slots. Of the customers that wait, the one whose last turn is longest ago gets
    the next free slot; within a customer, first come, first served.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._numbers = itertools.count(1)
        self._last_turns: LRUCache[int, int] = LRUCache(_MAX_CUSTOMERS)
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def hold(self, customer: int) -> AsyncIterator[None]:
        """Wait for a slot, and hold it during the block."""
        await self._wait(customer)
        try:
            yield
        finally:
            self._free += 1
            self._give()

    async def _wait(self, customer: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(customer, deque()).append(turn)
        self._give()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # given in the same moment
                self._free += 1
                self._give()
            raise

    def _give(self) -> None:
        while self._free and (customer := self._next()) is not None:
            queue = self._waiting[customer]
            turn = queue.popleft()
            if not queue:
                del self._waiting[customer]
            if not turn.cancelled():
                self._free -= 1
                self._last_turns[customer] = next(self._numbers)
                turn.set_result(None)

    def _next(self) -> int | None:
        if not self._waiting:
            return None
        return min(self._waiting, key=lambda customer: self._last_turns.get(customer, 0))


class HostSlots:
    """The same number of slots for each origin host."""

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._hosts: dict[str, FairSlots] = {}
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def hold(self, host: str, customer: int) -> AsyncIterator[None]:
        """Wait for a slot of the host, and hold it during the block; "" has no limit."""
        if not host:
            yield
            return
        slots = self._hosts.setdefault(host, FairSlots(self._per_host))
        self._users[host] += 1
        try:
            async with slots.hold(customer):
                yield
        finally:
            self._users[host] -= 1
            if not self._users[host]:
                del self._users[host], self._hosts[host]
