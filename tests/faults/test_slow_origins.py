"""Origins that send a byte now and then hold up only themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator.processes.worker import build_worker
from orchestrator.settings import Settings
from tests.integration.api.conftest import new_database, open_house, settings_for
from tests.support.jobs import running
from tests.support.server_fixtures import postgres

__all__ = ["postgres"]


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
        async with running(build_worker(house.services).run()), asyncio.timeout(60):
            while {job.state for job in await jobs.page(9, customer=other)} != {"done"}:
                await asyncio.sleep(0.05)
            assert {job.state for job in await jobs.page(9, customer=slow)} == {"running"}
