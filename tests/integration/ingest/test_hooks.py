"""Hooks: after a change of an asset the CDN is purged, the source warmed up, a webhook called. None
of them can fail the ingest.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from pydantic import SecretStr

from orchestrator import metrics
from orchestrator.catalog.batches import BatchDraft
from orchestrator.catalog.jobs import Job, JobDraft
from orchestrator.errors import Fault, Unprocessable
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.hooks import HookHandler, HookJobs
from orchestrator.ingest.register import Request
from orchestrator.jobs.worker_loop import Worker
from orchestrator.model import Asset, AssetId
from orchestrator.settings import Ingest
from orchestrator.work_context import WorkContext, working_for
from tests.support import pictures
from tests.support.ingesting import IngestSystem, open_ingest_system, settings_for
from tests.support.jobs import FAST, running
from tests.support.patience import patience

pytestmark = pytest.mark.asyncio(loop_scope="session")
ID = AssetId(1, 1, "a b/c")


SECRET = b"0123456789abcdef0123456789abcdef"


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


def counted(what: str, outcome: str) -> float:
    return float(metrics.AFTER_INGEST.labels(what, outcome)._value.get())


@asynccontextmanager
async def hooked(
    dsn: str, tmp_path: Path, imaging: ImagingPool, **ingest: Any
) -> AsyncIterator[IngestSystem]:
    """An ingest system with these hooks. Nothing runs their jobs."""
    plain = settings_for(dsn, tmp_path / "data")
    settings = plain.model_copy(update={"ingest": Ingest(**(plain.ingest.model_dump() | ingest))})
    async with open_ingest_system(settings, imaging) as system:
        yield system


@asynccontextmanager
async def calling(
    system: IngestSystem, warm_up: Callable[[Asset], Awaitable[object]] | None = None
) -> AsyncIterator[Callable[[], Awaitable[list[Job]]]]:
    """Workers that run the jobs of hooks. Yields a function that waits until all have ended, and
    returns them.
    """
    settings, catalog = system.settings.ingest, system.catalog

    async def no_warm_up(asset: Asset) -> None:
        raise AssertionError

    handler = HookHandler(settings, catalog.assets, system.submitter, warm_up or no_warm_up)
    options = replace(FAST, slots=2, max_attempts=settings.after_tries, retry_first_s=0.01)

    async def ended() -> list[Job]:
        async with asyncio.timeout(60 * patience()):
            while True:
                jobs = await catalog.jobs.page(1000)
                if all(job.state in ("done", "failed") for job in jobs):
                    return jobs
                await asyncio.sleep(0.02)

    async with AsyncExitStack() as stack:
        for kind in HookJobs(settings).kinds:
            worker = Worker(catalog.claims, {kind: handler}, options)
            await stack.enter_async_context(running(worker.run()))
        yield ended


async def ingest_one(system: IngestSystem) -> Asset:
    path = pictures.jpeg(system.pictures / "a.jpg", 90, 60)
    return (await system.ingest(Request(ID, str(path)))).asset


async def test_a_webhook_gets_the_id_of_the_request_that_changed_the_asset(
    dsn: str, tmp_path: Path, imaging: ImagingPool
) -> None:
    async with (
        a_web_server() as server,
        hooked(dsn, tmp_path, imaging, webhook_url=f"{server.base}/changed") as system,
    ):
        with working_for(WorkContext("abc-1")):
            await ingest_one(system)
        async with calling(system) as ended:
            jobs = await ended()
    assert {job.request_id for job in jobs} == {"abc-1"}
    [(_, _, headers, _)] = server.requests
    assert headers["X-Request-ID"] == "abc-1"  # as aiohttp spells it


async def test_the_cdn_is_purged_before_the_source_is_warmed_up_and_the_webhook_is_called(
    dsn: str, tmp_path: Path, imaging: ImagingPool
) -> None:
    warmed: list[bool] = []
    async with a_web_server() as server:

        async def warm(asset: Asset) -> None:
            warmed.append(any(path == "/purge" for _, path, *_ in server.requests))

        hooks = {
            "purge_url": f"{server.base}/purge",
            "purge_headers": {"Fastly-Key": SecretStr("s3cret")},
            "webhook_url": f"{server.base}/hook",
            "warm_url": f"{server.base}/iiif/3/{{id}}/info.json",
            "warm_up": True,
        }
        async with hooked(dsn, tmp_path, imaging, **hooks) as system:
            asset = await ingest_one(system)
            async with calling(system, warm) as ended:
                jobs = await ended()
        assert "s3cret" not in str([job.payload for job in jobs])
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
    dsn: str, tmp_path: Path, imaging: ImagingPool
) -> None:
    async with a_web_server() as server:
        hooks = {
            "webhook_url": f"{server.base}/hook",
            "purge_url": f"{server.base}/",
            "purge_method": "PURGE",
        }
        async with hooked(dsn, tmp_path, imaging, **hooks) as system:
            await ingest_one(system)
            await ingest_one(system)  # unchanged
            await system.pipeline.editor.set_access(ID, roles=("reader",))
            await system.pipeline.editor.set_access(ID, roles=("reader",))  # no change
            torn = pictures.truncated(
                system.pictures / "t.jpg", pictures.jpeg(system.pictures / "w.jpg", 600, 500), 0.4
            )
            with pytest.raises(Unprocessable):
                await system.ingest(Request(ID, str(torn)))
            await system.pipeline.editor.delete(ID)
            async with calling(system) as ended:
                await ended()
        events = [body["event"] for _, path, _, body in server.requests if path == "/hook"]
        assert sorted(events) == ["changed", "deleted", "failed", "ingested"]
        [failed] = [body for _, _, _, body in server.requests if body.get("event") == "failed"]
        assert failed["error"]
        purges = [method for method, path, _, _ in server.requests if path == "/"]
        assert purges == ["PURGE"] * 3


async def test_hooks_survive_the_death_of_the_process_that_made_the_change(
    dsn: str, tmp_path: Path, imaging: ImagingPool
) -> None:
    """They are recorded in the transaction of the change: another process calls them."""
    async with a_web_server() as server:
        hooks = {"purge_url": f"{server.base}/purge", "webhook_url": f"{server.base}/hook"}
        async with hooked(dsn, tmp_path, imaging, **hooks) as system:
            await ingest_one(system)
            with pytest.raises(ZeroDivisionError):
                async with system.catalog.transaction() as connection:
                    recorder = system.catalog.edits._changes
                    await recorder.record(connection, "changed", await system.asset(ID.name))
                    raise ZeroDivisionError  # the change is not committed
        assert server.requests == []
        async with (
            hooked(dsn, tmp_path, imaging, **hooks) as restarted,
            calling(restarted) as ended,
        ):
            jobs = await ended()
        assert sorted(job.kind for job in jobs) == ["purge", "webhook"]
        assert sorted(path for _, path, *_ in server.requests) == ["/hook", "/purge"]


async def test_a_purge_is_retried_until_the_cdn_answers(
    dsn: str, tmp_path: Path, imaging: ImagingPool
) -> None:
    async with a_web_server() as server:
        server.statuses = [503, 500]
        before = counted("purge", "done")
        async with hooked(dsn, tmp_path, imaging, purge_url=f"{server.base}/purge") as system:
            await ingest_one(system)
            async with calling(system) as ended:
                [job] = await ended()
        assert (job.state, job.attempts) == ("done", 3)
        assert len(server.requests) == 3
        assert counted("purge", "done") == before + 1


async def test_a_hook_that_fails_is_a_dead_letter_and_does_not_fail_the_ingest(
    dsn: str, tmp_path: Path, imaging: ImagingPool
) -> None:
    hooks = {
        "purge_url": "http://127.0.0.1:9/purge",  # nothing listens there
        "webhook_url": "http://127.0.0.1:9/hook",
        "after_tries": 2,
    }
    async with hooked(dsn, tmp_path, imaging, **hooks) as system:
        assert (await ingest_one(system)).servable
        async with calling(system) as ended:
            jobs = await ended()
    assert sorted((job.kind, job.state, job.attempts) for job in jobs) == [
        ("purge", "failed", 2),
        ("webhook", "failed", 2),
    ]


async def test_a_webhook_that_never_answers_does_not_delay_a_purge(
    dsn: str, tmp_path: Path, imaging: ImagingPool
) -> None:
    never = asyncio.Event()

    async def silent(request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with a_web_server() as server, a_server(silent) as dead:
        hooks = {
            "purge_url": f"{server.base}/purge",
            "webhook_url": f"{dead}/hook",
            "after_timeout_s": 600,
        }
        async with hooked(dsn, tmp_path, imaging, **hooks) as system:
            await ingest_one(system)
            for number in range(8):
                await system.pipeline.editor.set_fields(ID, tags=(f"{number}",))
            async with calling(system):
                async with asyncio.timeout(60 * patience()):
                    while len(server.requests) < 9:
                        await asyncio.sleep(0.02)
                never.set()


async def test_no_job_is_recorded_if_no_hook_is_configured(system: IngestSystem) -> None:
    await ingest_one(system)
    assert await system.catalog.jobs.page() == []


async def until_called(server: WebServer, times: int) -> None:
    async with asyncio.timeout(60 * patience()):
        while len(server.requests) < times:
            await asyncio.sleep(0.02)
    assert len(server.requests) == times


def signature(headers: dict[str, str], body: bytes) -> str:
    """What Standard Webhooks says that the signature is."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(SECRET, signed, "sha256")).decode()


async def test_a_finished_batch_is_reported_once_signed_and_again_after_a_retry(
    dsn: str, tmp_path: Path, imaging: ImagingPool
) -> None:
    async with a_web_server() as server:
        hooks = {
            "batch_webhook_url": f"{server.base}/batch",
            "webhook_headers": {"X-Api-Key": SecretStr("s3cret")},
            "webhook_secret": SecretStr(f"whsec_{base64.b64encode(SECRET).decode()}"),
        }
        fault = Fault("origin_not_found", "fetch", retryable=False, detail="404")
        async with hooked(dsn, tmp_path, imaging, **hooks) as system:
            await system.catalog.customers.ensure(1, "main")
            claims = system.catalog.claims
            drafts = [JobDraft("test", {}, 1) for _ in range(3)]
            silent = await system.submitter.submit(drafts, BatchDraft(1))
            await system.submitter.cancel_batch(silent.batch or 0)
            batch = (await system.submitter.submit(drafts, BatchDraft(1, "normal", True))).batch
            claimed = [await claims.claim(f"w{n}/1", ["test"], ["normal"], 9) for n in range(3)]
            done, failed, lost = [job for job in claimed if job is not None]
            await claims.complete(done)
            await claims.fail(failed, fault)
            await claims.complete(done)  # settled twice
            assert [job.kind for job in await system.catalog.jobs.page(9, batch=None)] == [
                "test"
            ] * 6
            await claims.recover_from(["w2"], 1)  # the worker of the last one was killed
            await claims.complete(lost)
        server.statuses = [503, 500]
        async with (
            hooked(dsn, tmp_path, imaging, **hooks) as restarted,  # that process was killed, too
            calling(restarted),
        ):
            await until_called(server, 3)
            for _, path, headers, body in server.requests:
                assert path == "/batch"
                assert headers["webhook-id"] == server.requests[0][2]["webhook-id"]
                assert headers["webhook-signature"] == signature(headers, orjson.dumps(body))
                assert headers["X-Api-Key"] == "s3cret"
            body = server.requests[-1][3]
            assert (body["event"], body["id"], body["customer"]) == ("batch-completed", batch, 1)
            counts = [body[name] for name in ("count", "completed", "errors", "superseded")]
            assert counts == [3, 1, 2, 0]
            assert body["finished"] > body["submitted"]

            assert len(await restarted.submitter.retry_batch(batch or 0)) == 2
            await restarted.submitter.cancel_batch(batch or 0)
            await until_called(server, 4)
            again = server.requests[3]
            assert again[2]["webhook-id"] != server.requests[0][2]["webhook-id"]
            assert (again[3]["errors"], again[3]["cancelled"]) == (0, 2)


async def test_an_asset_webhook_without_a_secret_is_not_signed(
    dsn: str, tmp_path: Path, imaging: ImagingPool
) -> None:
    async with a_web_server() as server:
        hooks = {"webhook_url": f"{server.base}/hook"}
        async with hooked(dsn, tmp_path, imaging, **hooks) as system:
            await ingest_one(system)
            async with calling(system) as ended:
                await ended()
        assert not {"webhook-id", "webhook-signature"} & set(server.requests[0][2])
    with pytest.raises(ValueError, match="whsec_"):
        Ingest(webhook_secret=SecretStr("whsec_***"))
