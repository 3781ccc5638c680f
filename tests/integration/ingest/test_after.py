"""What follows an ingest: the CDN is told, the source warmed up, a webhook called; whatever becomes
of it, the ingest stands.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from orchestrator import metrics
from orchestrator.errors import StorageUnavailable, Unprocessable
from orchestrator.ingest import hooks as module
from orchestrator.ingest.hooks import AfterIngest
from orchestrator.ingest.register import Request
from orchestrator.model import Asset, AssetId
from orchestrator.settings import Ingest
from tests.support import pictures
from tests.support.ingesting import House

pytestmark = pytest.mark.asyncio(loop_scope="module")
ID = AssetId(1, 1, "a b/c")


@dataclass
class World:
    """A CDN, a webhook and a public port in one; `statuses` are answered first, then 200."""

    base: str = ""
    asked: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        said = json.loads(body) if body else None
        self.asked.append((request.method, request.raw_path, dict(request.headers), said))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    world = World()
    async with a_server(world.answer) as world.base:
        yield world


@asynccontextmanager
async def a_server(
    answer: Callable[[web.Request], Awaitable[web.Response]],
) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)


def counted(what: str, outcome: str) -> float:
    return float(metrics.AFTER_INGEST.labels(what, outcome)._value.get())


async def taken_in(house: House, after: AfterIngest) -> Asset:
    house.pipeline.after = after
    house.pipeline._ingests._after = after
    path = pictures.jpeg(house.pictures / "a.jpg", 90, 60)
    return (await house.pipeline.ingest(Request(ID, str(path)))).asset


async def test_the_cdn_forgets_before_the_source_is_warmed_up_and_the_webhook_is_told(
    house: House,
) -> None:
    warmed: list[bool] = []
    async with a_world() as world:

        async def warm(asset: Asset) -> None:
            warmed.append(any(path == "/purge" for _, path, *_ in world.asked))

        settings = Ingest(
            purge_url=f"{world.base}/purge",
            purge_headers={"Fastly-Key": SecretStr("s3cret")},
            webhook_url=f"{world.base}/hook",
            warm_url=f"{world.base}/iiif/3/{{id}}/info.json",
            warm_up=True,
        )
        after = AfterIngest(settings, warm)
        async with after.running():
            asset = await taken_in(house, after)
        assert warmed == [True]
        purge, info = [each for each in world.asked if each[1] != "/hook"]
        [hook] = [each for each in world.asked if each[1] == "/hook"]
        assert purge[:2] == ("POST", "/purge")
        key = "asset-1%2F1%2Fa%20b%252Fc"
        assert (purge[2]["Surrogate-Key"], purge[2]["Cache-Tag"]) == (key, key)
        assert purge[2]["Fastly-Key"] == "s3cret"
        assert purge[3]["surrogate_keys"] == [key]
        assert info[:2] == ("GET", "/iiif/3/1%2F1%2Fa%20b%252Fc/info.json")
        assert hook[3] | {"event": "ingested", "id": str(ID), "version": asset.version} == hook[3]


async def test_every_change_and_the_end_are_told_and_what_has_not_changed_is_not(
    house: House,
) -> None:
    async with a_world() as world:
        settings = Ingest(
            webhook_url=f"{world.base}/hook", purge_url=f"{world.base}/", purge_method="PURGE"
        )
        after = AfterIngest(settings)
        async with after.running():
            await taken_in(house, after)
            await taken_in(house, after)  # the very same
            await house.pipeline.set_access(ID, roles=("reader",))
            torn = pictures.truncated(
                house.pictures / "t.jpg", pictures.jpeg(house.pictures / "w.jpg", 600, 500), 0.4
            )
            with pytest.raises(Unprocessable):
                await house.pipeline.ingest(Request(ID, str(torn)))
            await house.pipeline.delete(ID)
        events = [said["event"] for _, path, _, said in world.asked if path == "/hook"]
        assert sorted(events) == ["changed", "deleted", "failed", "ingested"]
        [failed] = [said for _, _, _, said in world.asked if said.get("event") == "failed"]
        assert failed["error"]
        purges = [method for method, path, _, _ in world.asked if path == "/"]
        assert purges == ["PURGE"] * 3


async def test_a_cdn_that_comes_back_is_told_in_the_end(house: House) -> None:
    async with a_world() as world:
        world.statuses = [503, 500]
        after = AfterIngest(Ingest(purge_url=f"{world.base}/purge"))
        before = counted("purge", "done")
        async with after.running():
            await taken_in(house, after)
        assert len(world.asked) == 3
        assert counted("purge", "done") == before + 1


async def test_whatever_fails_the_ingest_stands_and_the_failure_is_counted(house: House) -> None:
    async def broken(asset: Asset) -> None:
        raise StorageUnavailable("away")

    settings = Ingest(
        purge_url="http://127.0.0.1:9/purge",  # nobody there
        webhook_url="http://127.0.0.1:9/hook",
        warm_up=True,
        after_tries=2,
    )
    after = AfterIngest(settings, broken)
    before = [counted(what, "failed") for what in ("purge", "warm_up", "webhook")]
    async with after.running():
        assert (await taken_in(house, after)).servable
    assert [counted(what, "failed") for what in ("purge", "warm_up", "webhook")] == [
        count + 1 for count in before
    ]


async def test_a_full_queue_drops_and_counts(house: House) -> None:
    after = AfterIngest(Ingest(purge_url="http://127.0.0.1:9/", after_queue=1))
    asset = await taken_in(house, AfterIngest(Ingest()))
    before = counted("purge", "dropped")
    after.happened("changed", asset)
    after.happened("changed", asset)
    assert counted("purge", "dropped") == before + 1


async def test_a_webhook_that_never_answers_delays_no_purge(house: House) -> None:
    never = asyncio.Event()

    async def silent(request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    asset = await taken_in(house, AfterIngest(Ingest()))
    async with a_world() as world, a_server(silent) as dead:
        settings = Ingest(
            purge_url=f"{world.base}/purge",
            webhook_url=f"{dead}/hook",
            warm_url=f"{dead}/{{id}}",
            after_queue=8,
        )
        after = AfterIngest(settings)
        dropped = counted("purge", "dropped")
        async with after.running():
            async with asyncio.timeout(4):  # one try of the webhook takes 5 s
                for number in range(1, 33):
                    after.happened("changed", asset)
                    while len(world.asked) < number:
                        await asyncio.sleep(0.005)
            never.set()
        assert counted("purge", "dropped") == dropped


async def test_nothing_is_queued_where_nothing_is_wanted(house: House) -> None:
    after = AfterIngest(Ingest())
    async with after.running():
        await taken_in(house, after)
    assert not after._queues
