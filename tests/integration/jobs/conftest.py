"""A job system over a real PostgreSQL, with and without SQS."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest

from orchestrator.settings import Database, Jobs
from tests.support.jobs import LEASES, JobSystem, open_job_system, sqs_settings

_numbers = itertools.count()


@pytest.fixture
async def system(database: Database) -> AsyncIterator[JobSystem]:
    """Without SQS."""
    async with open_job_system(database, Jobs(**LEASES)) as opened:
        yield opened


@pytest.fixture
async def sqs_system(database: Database, sqs_server: str) -> AsyncIterator[JobSystem]:
    """With SQS."""
    settings = sqs_settings(sqs_server, f"w{next(_numbers)}", **LEASES)
    async with open_job_system(database, settings) as opened:
        yield opened


@pytest.fixture(params=["postgresql", "sqs"])
def either(request: pytest.FixtureRequest) -> JobSystem:
    """Each of them."""
    system: JobSystem = request.getfixturevalue(
        "sqs_system" if request.param == "sqs" else "system"
    )
    return system
