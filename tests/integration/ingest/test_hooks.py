"""Hooks: after a change of an asset the CDN is purged, the source warmed up, a webhook called. None
of them can fail the ingest.
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
from orchestrator.ingest.hooks import ChangeHooks
from orchestrator.ingest.register import Request
from orchestrator.model import Asset, AssetId
from orchestrator.settings import Ingest
from tests.support import pictures
from tests.support.ingesting import IngestSystem

pytestmark = pytest.mark.asyncio(loop_scope="module")
ID = AssetId(1, 1, "a b/c")


@dataclass
class WebServer:
    """A CDN, a webhook and a public port in one; `statuses` are answered first, then 200."""

    base: str = ""
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        body = json.loads(body) if body else None
        self.requests.append((request.method, request.raw_path, dict(request.headers), body))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@asynccontextmanager
async def a_web_server() -> AsyncIterator[WebServer]:
    server = WebServer()
    async with a_server(server.answer) as server.base:
        yield server


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


async def ingest_with(system: IngestSystem, hooks: ChangeHooks) -> Asset:
    system.use_hooks(hooks)
    path = pictures.jpeg(system.pictures / "a.jpg", 90, 60)
    return (await system.ingest(Request(ID, str(path)))).asset


async def test_the_cdn_is_purged_before_the_source_is_warmed_up_and_the_webhook_is_called(
    system: IngestSystem,
) -> None:
    warmed: list[bool] = []
    async with a_web_server() as server:

        async def warm(asset: Asset) -> None:
            warmed.append(any(path == "/purge" for _, path, *_ in server.requests))

        settings = Ingest(
            purge_url=f"{server.base}/purge",
            purge_headers={"Fastly-Key": SecretStr("s3cret")},
            webhook_url=f"{server.base}/hook",
            warm_url=f"{server.base}/iiif/3/{{id}}/info.json",
            warm_up=True,
        )
        hooks = ChangeHooks(settings, warm)
        async with hooks.run_workers():
            asset = await ingest_with(system, hooks)
        assert warmed == [True]
        purge, info = [each for each in server.requests if each[1] != "/hook"]
        [hook] = [each for each in server.requests if each[1] == "/hook"]
        assert purge[:2] == ("POST", "/purge")
        key = "asset-1%2F1%2Fa%20b%252Fc"
        assert (purge[2]["Surrogate-Key"], purge[2]["Cache-Tag"]) == (key, key)
        assert purge[2]["Fastly-Key"] == "s3cret"
        assert purge[3]["surrogate_keys"] == [key]
        assert info[:2] == ("GET", "/iiif/3/1%2F1%2Fa%20b%252Fc/info.json")
        assert hook[3] | {"event": "ingested", "id": str(ID), "version": asset.version} == hook[3]


async def test_every_change_and_the_deletion_are_reported_and_an_unchanged_ingest_is_not(
    system: IngestSystem,
) -> None:
    async with a_web_server() as server:
        settings = Ingest(
            webhook_url=f"{server.base}/hook", purge_url=f"{server.base}/", purge_method="PURGE"
        )
        hooks = ChangeHooks(settings)
        async with hooks.run_workers():
            await ingest_with(system, hooks)
            await ingest_with(system, hooks)  # unchanged
            await system.pipeline.editor.set_access(ID, roles=("reader",))
            torn = pictures.truncated(
                system.pictures / "t.jpg", pictures.jpeg(system.pictures / "w.jpg", 600, 500), 0.4
            )
            with pytest.raises(Unprocessable):
                await system.ingest(Request(ID, str(torn)))
            await system.pipeline.editor.delete(ID)
        events = [body["event"] for _, path, _, body in server.requests if path == "/hook"]
        assert sorted(events) == ["changed", "deleted", "failed", "ingested"]
        [failed] = [body for _, _, _, body in server.requests if body.get("event") == "failed"]
        assert failed["error"]
        purges = [method for method, path, _, _ in server.requests if path == "/"]
        assert purges == ["PURGE"] * 3


async def test_a_purge_is_retried_until_the_cdn_answers(system: IngestSystem) -> None:
    async with a_web_server() as server:
        server.statuses = [503, 500]
        hooks = ChangeHooks(Ingest(purge_url=f"{server.base}/purge"))
        before = counted("purge", "done")
        async with hooks.run_workers():
            await ingest_with(system, hooks)
        assert len(server.requests) == 3
        assert counted("purge", "done") == before + 1


async def test_a_hook_that_fails_is_counted_and_does_not_fail_the_ingest(
    system: IngestSystem,
) -> None:
    async def broken(asset: Asset) -> None:
        raise StorageUnavailable("away")

    settings = Ingest(
        purge_url="http://127.0.0.1:9/purge",  # nothing listens there
        webhook_url="http://127.0.0.1:9/hook",
        warm_up=True,
        after_tries=2,
    )
    hooks = ChangeHooks(settings, broken)
    before = [counted(what, "failed") for what in ("purge", "warm_up", "webhook")]
    async with hooks.run_workers():
        assert (await ingest_with(system, hooks)).servable
    assert [counted(what, "failed") for what in ("purge", "warm_up", "webhook")] == [
        count + 1 for count in before
    ]


async def test_a_full_queue_drops_and_counts_the_event(system: IngestSystem) -> None:
    hooks = ChangeHooks(Ingest(purge_url="http://127.0.0.1:9/", after_queue=1))
    asset = await ingest_with(system, ChangeHooks(Ingest()))
    before = counted("purge", "dropped")
    hooks.enqueue("changed", asset)
    hooks.enqueue("changed", asset)
    assert counted("purge", "dropped") == before + 1


async def test_a_webhook_that_never_answers_does_not_delay_a_purge(system: IngestSystem) -> None:
    never = asyncio.Event()

    async def silent(request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    asset = await ingest_with(system, ChangeHooks(Ingest()))
    async with a_web_server() as server, a_server(silent) as dead:
        settings = Ingest(
            purge_url=f"{server.base}/purge",
            webhook_url=f"{dead}/hook",
            warm_url=f"{dead}/{{id}}",
            after_queue=8,
        )
        hooks = ChangeHooks(settings)
        dropped = counted("purge", "dropped")
        async with hooks.run_workers():
            async with asyncio.timeout(4):  # one attempt of the webhook takes 5 s
                for number in range(1, 33):
                    hooks.enqueue("changed", asset)
                    while len(server.requests) < number:
                        await asyncio.sleep(0.005)
            never.set()
        assert counted("purge", "dropped") == dropped


async def test_nothing_is_queued_if_no_hook_is_configured(system: IngestSystem) -> None:
    hooks = ChangeHooks(Ingest())
    async with hooks.run_workers():
        await ingest_with(system, hooks)
    assert not hooks._queues
