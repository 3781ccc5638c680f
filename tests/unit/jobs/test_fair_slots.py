"""Slots that customers take turns at."""

from __future__ import annotations

import asyncio
from collections import Counter

from orchestrator.jobs.fair_slots import FairSlots, HostSlots
from tests.support.patience import patience


async def test_a_customer_gets_its_turn_before_the_many_of_another_that_wait() -> None:
    slots, order = FairSlots(1), list[int]()

    async def work(customer: int) -> None:
        async with slots.hold(customer):
            order.append(customer)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(60):
            tasks.create_task(work(1))
        await asyncio.sleep(0)
        tasks.create_task(work(2))
    assert len(order) == 61
    assert order.index(2) <= 2


async def test_no_more_than_the_number_of_slots_are_held_and_a_cancelled_wait_loses_none() -> None:
    slots, held, most = FairSlots(3), 0, 0

    async def work(customer: int) -> None:
        nonlocal held, most
        async with slots.hold(customer):
            held += 1
            most = max(most, held)
            try:
                await asyncio.sleep(0.001)
            finally:
                held -= 1

    tasks = [asyncio.create_task(work(number % 4)) for number in range(200)]
    for number, task in enumerate(tasks):
        if number % 3 == 0:
            await asyncio.sleep(0.0005)
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (held, most) == (0, 3)
    async with asyncio.timeout(5 * patience()), slots.hold(1), slots.hold(1), slots.hold(2):
        pass


async def test_each_host_has_its_own_slots_and_none_is_kept_when_it_is_not_used() -> None:
    slots, held = HostSlots(2), Counter[str]()
    most: Counter[str] = Counter()

    async def read(host: str, customer: int) -> None:
        async with slots.hold(host, customer):
            held[host] += 1
            most[host] = max(most[host], held[host])
            await asyncio.sleep(0)
            held[host] -= 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(30):
            tasks.create_task(read(("a.org", "b.org", "")[number % 3], number % 2))
    assert most == {"a.org": 2, "b.org": 2, "": 10}
    assert not slots._hosts
