"""An installation that makes pyramids of a bucket: a real PostgreSQL, a real S3 server, the API on
a socket. It is shared by the tests of a module; each uses keys of its own.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.catalog.pyramid_values import PyramidSource, SourceObject
from orchestrator.model import Asset, AssetId
from orchestrator.processes.pyramid_run import RunReport, run_once
from orchestrator.settings import Pyramids, Settings
from tests.integration.api.conftest import House, Reply, open_house, settings_for
from tests.support import pictures
from tests.support.bucket_events import PyramidBuckets, notification
from tests.support.jobs import sqs_client
from tests.support.server_fixtures import S3Server, new_database

SECRET = "the secret of the senders"
QUEUE = "events"


def patient(settings: Settings) -> Settings:
    """The settings with time limits that hold on a busy machine."""
    changes = {"read_timeout_s": 60, "total_timeout_s": 120}
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update=changes)})


@dataclass
class PyramidSystem:
    """The installation, its buckets and its queue."""

    house: House
    buckets: PyramidBuckets
    sqs: Any

    async def post(self, message: Any, *, key: str = SECRET) -> Reply:
        """POST an event."""
        return await self.house.ask("POST", "/events/s3", message, key=key)

    async def accept(self, *records: dict[str, Any]) -> dict[str, int]:
        """POST a notification; the counts of the answer."""
        reply = await self.post(notification(*records))
        assert reply.status == 200, reply.body
        counts: dict[str, int] = reply.json
        return counts

    async def put(self, key: str, body: bytes) -> str:
        """Write an object and report it; its ETag."""
        etag = self.buckets.put(key, body)
        assert (await self.accept(self.buckets.record(key, etag)))["accepted"] == 1
        return etag

    async def run(self) -> RunReport:
        """Do what waits."""
        return await run_once(self.house.services)

    async def source(self, key: str) -> PyramidSource:
        """What is known of an object, which must be known."""
        place = SourceObject(self.buckets.source, key)
        found = await self.house.services.catalog.pyramids.get(place)
        assert found is not None
        return found

    async def asset(self, name: str) -> Asset | None:
        """The asset `1/1/{name}`."""
        return await self.house.services.catalog.assets.get(AssetId(1, 1, name))


def jpeg(width: int = 300, height: int = 200, seed: int = 0) -> bytes:
    """A JPEG file."""
    target = io.BytesIO()
    pictures.picture(width, height, seed).save(target, "JPEG", quality=90)
    return target.getvalue()


def png(width: int = 200, height: int = 160, seed: int = 1) -> bytes:
    """A PNG file."""
    target = io.BytesIO()
    pictures.picture(width, height, seed).save(target, "PNG")
    return target.getvalue()


@contextmanager
def a_queue(address: str, name: str) -> Iterator[Any]:
    client = sqs_client(address)
    client.create_queue(QueueName=name)
    yield client
    client.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(
    postgres: str,
    s3_server: S3Server,
    sqs_server: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[PyramidSystem]:
    data = tmp_path_factory.mktemp("data")
    settings = patient(settings_for(await new_database(postgres), data))
    with PyramidBuckets(s3_server.endpoint) as buckets, a_queue(sqs_server, QUEUE) as sqs:
        values = buckets.settings(
            event_secret=SECRET,
            write_notes=True,
            sqs_queue=QUEUE,
            max_threads=2,
            copyright_max_width=120,
            copyright_max_height=120,
        )
        jobs = settings.jobs.model_copy(
            update={
                "sqs_endpoint": sqs_server,
                "sqs_access_key": Pyramids(access_key="testing").access_key,
                "sqs_secret_key": Pyramids(access_key="testing").access_key,
                "max_attempts": 2,
            }
        )
        changes = {"pyramids": Pyramids.model_validate(values), "jobs": jobs}
        async with open_house(settings.model_copy(update=changes)) as house:
            yield PyramidSystem(house, buckets, sqs)
