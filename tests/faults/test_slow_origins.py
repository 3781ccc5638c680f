"""Origins that send a byte now and then hold up only themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator.processes.worker import build_worker
from orchestrator.settings import Settings
from tests.integration.api.conftest import Reply, open_house, settings_for
from tests.support.jobs import running
from tests.support.patience import patience
from tests.support.server_fixtures import new_database


def with_one_worker(settings: Settings) -> Settings:
    """One conversion at once, few connections, and time for origins that trickle."""
    ingest = {"workers": 1, "read_timeout_s": 60, "total_timeout_s": 600, "min_rate": 1}
    return settings.model_copy(
        update={
            "ingest": settings.ingest.model_copy(update=ingest),
            "database": settings.database.model_copy(update={"pool_max": 3}),
            "server": settings.server.model_copy(update={"drain_s": 0.1}),
        }
    )


async def test_two_slow_origins_delay_no_other_customer(postgres: str, tmp_path: Path) -> None:
    dsn = await new_database(postgres)
    async with open_house(with_one_worker(settings_for(dsn, tmp_path / "data"))) as house:
        slow, other = await house.customer(), await house.customer()
        trickles = [house.origins.url("/drip", host) for host in ("127.0.0.1", "localhost")]
        for customer, origins in ((slow, trickles), (other, [house.picture() for _ in range(3)])):
            for number, origin in enumerate(origins):
                member = {"id": f"p{number}", "space": 1, "origin": origin}
                queue = f"/customers/{customer}/queue"
                posted = await house.ask("POST", queue, {"member": [member]})
                assert posted.status == 201, posted.body
        jobs = house.services.catalog.jobs
        async with running(build_worker(house.services).run()), asyncio.timeout(60 * patience()):
            while {job.state for job in await jobs.page(9, customer=other)} != {"done"}:
                await asyncio.sleep(0.05)
            assert {job.state for job in await jobs.page(9, customer=slow)} == {"running"}


async def test_a_customer_whose_clients_wait_for_a_slow_origin_stops_no_other(
    postgres: str, tmp_path: Path
) -> None:
    dsn = await new_database(postgres)
    settings = with_one_worker(settings_for(dsn, tmp_path / "data"))
    settings = settings.model_copy(
        update={"api": settings.api.model_copy(update={"sync_ingests": 8})}
    )
    async with open_house(settings) as house, asyncio.timeout(60 * patience()):
        slow, other, third = [await house.customer() for _ in range(3)]
        hang = {"origin": house.origins.url("/hang")}
        waiting = {
            asyncio.create_task(
                house.ask("PUT", f"/customers/{slow}/spaces/1/images/{number}", hang)
            )
            for number in range(20)
        }
        refused: list[Reply] = []
        while len(refused) < 17:  # jobs.per_customer is 3
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            refused += [task.result() for task in done]
        assert {(reply.status, reply.code) for reply in refused} == {(503, "overloaded")}
        assert {reply.headers["retry-after"] for reply in refused} == {"5"}
        picture = {"origin": house.picture()}
        served = await house.ask("PUT", f"/customers/{other}/spaces/1/images/a", picture)
        assert served.status == 201, served.body
        # The queue has what is left of the four readers of the host: one.
        members = [{"id": f"p{number}", "space": 1, **hang} for number in range(6)]
        posted = await house.ask("POST", f"/customers/{third}/queue", {"member": members})
        assert posted.status == 201, posted.body
        jobs = house.services.catalog.jobs
        async with running(build_worker(house.services).run()):
            while house.origins.requests.count("/hang") < 4 or not any(
                job.state == "running" for job in await jobs.page(9, customer=third)
            ):
                await asyncio.sleep(0.05)
            assert house.origins.requests.count("/hang") == 4
        for task in waiting:
            task.cancel()
