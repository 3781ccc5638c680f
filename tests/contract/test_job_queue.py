"""What every form of the job queue promises: a bell with a lease."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from orchestrator.catalog.migrator import migrate
from orchestrator.errors import Unavailable
from orchestrator.jobs.queue import Ticket
from orchestrator.settings import Database, Jobs
from tests.support.jobs import Shop, a_draft, drafts, moto, open_shop, running, sqs_settings
from tests.support.server_fixtures import database, postgres

__all__ = ["database", "postgres"]
LEASE_S = 3.0
_numbers = itertools.count()


@pytest.fixture(scope="session")
def sqs_server() -> Iterator[str]:
    with moto() as address:
        yield address


@pytest.fixture(params=["pgqueuer", "sqs"])
async def shop(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Shop]:
    await migrate(database)
    settings = Jobs(lease_s=LEASE_S, heartbeat_s=0.5)
    if request.param == "sqs":
        address = request.getfixturevalue("sqs_server")
        name = f"q{next(_numbers)}"
        settings = sqs_settings(address, name, lease_s=LEASE_S, heartbeat_s=0.5)
    async with open_shop(database, settings) as opened, running(opened.queue.run()):
        yield opened


async def receive(shop: Shop, number: int, within_s: float = 8) -> list[Ticket]:
    """So many tickets, however they come."""
    found: list[Ticket] = []
    until = time.monotonic() + within_s
    while len(found) < number and time.monotonic() < until:
        found += await shop.queue.receive(number - len(found), 0.5)
    assert len(found) == number
    return found


async def none_within(shop: Shop, seconds: float) -> bool:
    return list(await shop.queue.receive(1, seconds)) == []


async def test_a_job_handed_in_rings_at_once_who_waits(shop: Shop) -> None:
    asked = asyncio.ensure_future(shop.queue.receive(1, 10))
    await asyncio.sleep(1)  # listening, or polling, by now
    assert not asked.done()
    before = time.monotonic()
    await shop.submitter.submit([a_draft()])
    [ticket] = await asked
    assert time.monotonic() - before < 1
    assert (ticket.lane, ticket.message, ticket.body) == ("normal", "", b"")
    await ticket.done()


async def test_who_waits_in_vain_is_told_in_time(shop: Shop) -> None:
    before = time.monotonic()
    assert await none_within(shop, 0.5)
    assert 0.4 < time.monotonic() - before < 3


async def test_each_job_rings_once_in_its_lane(shop: Shop) -> None:
    await shop.submitter.submit([*drafts(12), *drafts(2, lane="priority")])
    found = await receive(shop, 14)
    assert sorted(ticket.lane for ticket in found) == ["normal"] * 12 + ["priority"] * 2
    assert await none_within(shop, 0.3)
    for ticket in found:
        await ticket.done()
    assert await none_within(shop, LEASE_S + 0.5)


async def test_no_more_is_received_than_asked_for(shop: Shop) -> None:
    await shop.submitter.submit(drafts(12))
    left = 12
    while left:
        found = await shop.queue.receive(5, 1)
        assert 0 < len(found) <= 5
        left -= len(found)


async def test_what_is_rolled_back_rings_nobody(shop: Shop) -> None:
    with pytest.raises(ZeroDivisionError):
        async with shop.submitter.submission() as submission:
            await submission.submit([a_draft()])
            raise ZeroDivisionError
    assert await none_within(shop, 0.5)
    assert await shop.catalog.jobs.page() == []


async def test_a_lease_that_ends_gives_the_ticket_to_another(shop: Shop) -> None:
    await shop.submitter.submit([a_draft()])
    await receive(shop, 1)
    assert await none_within(shop, LEASE_S / 2)
    [again] = await receive(shop, 1)
    await again.done()


async def test_a_lease_can_be_kept_for_long(shop: Shop) -> None:
    await shop.submitter.submit([a_draft()])
    [ticket] = await receive(shop, 1)
    for _ in range(4):
        assert await none_within(shop, LEASE_S / 2)
        await ticket.extend()
    await ticket.done()
    assert await none_within(shop, LEASE_S + 0.5)


async def test_a_ticket_put_back_comes_again(shop: Shop) -> None:
    await shop.submitter.submit([a_draft()])
    [ticket] = await receive(shop, 1)
    await ticket.put_back()
    [again] = await receive(shop, 1, within_s=2)
    await again.put_back(1)
    assert await none_within(shop, 0.5)
    [last] = await receive(shop, 1)
    await last.done()


async def test_one_put_back_rings_another_who_waits(shop: Shop) -> None:
    await shop.submitter.submit([a_draft()])
    [ticket] = await receive(shop, 1)
    asked = asyncio.ensure_future(shop.queue.receive(1, 10))
    await asyncio.sleep(0.5)
    before = time.monotonic()
    await ticket.put_back()
    assert len(await asked) == 1
    assert time.monotonic() - before < 1.5


async def test_of_many_receivers_one_gets_each_ticket(shop: Shop) -> None:
    await shop.submitter.submit(drafts(20))

    got: list[Ticket] = []

    async def take() -> None:
        while len(got) < 20:
            got.extend(await shop.queue.receive(3, 0.1))

    async with asyncio.timeout(30):
        await asyncio.gather(*(take() for _ in range(4)))
    assert len(got) == 20
    assert await none_within(shop, 0.3)


async def test_jobs_never_announced_are_announced_later(shop: Shop) -> None:
    async with shop.catalog.transaction() as connection:
        await shop.catalog.jobs.record(connection, drafts(3))
    assert await none_within(shop, 0.3)
    assert await shop.submitter.announce_rest() == 3
    assert await shop.submitter.announce_rest() == 0
    assert len(await receive(shop, 3)) == 3


async def test_a_retry_rings(shop: Shop) -> None:
    [job] = (await shop.submitter.submit([a_draft()])).ids
    [ticket] = await receive(shop, 1)
    await ticket.done()
    await shop.catalog.jobs.cancel(job)
    await shop.submitter.retry(job)
    assert len(await receive(shop, 1)) == 1


async def test_a_queue_that_is_there_says_so(shop: Shop) -> None:
    await shop.queue.check()


async def test_tidying_takes_nothing_that_waits(shop: Shop) -> None:
    await shop.submitter.submit(drafts(2))
    await shop.queue.tidy()
    assert len(await receive(shop, 2)) == 2


async def test_sqs_that_is_away_loses_no_job_and_says_so(database: Database) -> None:
    await migrate(database)
    settings = Jobs(
        kind="sqs",
        sqs_queue="http://127.0.0.1:9/0/normal",
        sqs_priority_queue="http://127.0.0.1:9/0/priority",
        sqs_endpoint="http://127.0.0.1:9",
        sqs_access_key="a",
        sqs_secret_key="b",
    )
    async with open_shop(database, settings) as shop, running(shop.queue.run()):
        [job] = (await shop.submitter.submit([a_draft()])).ids
        assert (await shop.job(job)).state == "queued"
        with pytest.raises(Unavailable):
            await shop.queue.receive(1, 1)
        with pytest.raises(Unavailable):
            await shop.submitter.announce_rest()
        with pytest.raises(Unavailable):
            await shop.queue.check()
