"""What follows a change of an asset: the CDN drops what it holds, the source is warmed up, somebody
is told.

None of it can fail an ingest: it is queued, bounded in number and time, tried a few times, and then
logged, counted and let be. Every process is told of the change itself by the catalogue (NOTIFY);
this is for the world outside.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import aiohttp
import orjson
from pydantic import SecretStr

from orchestrator import metrics
from orchestrator.errors import OrchestratorError
from orchestrator.model import Asset
from orchestrator.settings import Ingest

log = logging.getLogger(__name__)
What = Literal["ingested", "changed", "deleted", "failed"]
Warm = Callable[[Asset], Awaitable[object]]
"""Brings the source of an asset to this host's fast disk."""
Kind = Literal["purge", "warm_up", "webhook"]
_WORKERS = 2
"""For each kind."""
_FIRST_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to an asset."""

    what: What
    asset: Asset
    error: str = ""


class AfterIngest:
    """The queues of what happened, and the tasks that work them off while `running`. Each kind of
    work that is wanted has its own, so that nobody's outage delays another's.
    """

    def __init__(self, settings: Ingest, warm: Warm | None = None) -> None:
        self._settings = settings
        self._warm = warm if settings.warm_up else None
        self._queues: dict[Kind, asyncio.Queue[Event]] = {
            kind: asyncio.Queue(settings.after_queue) for kind in self._wanted
        }
        self._session: aiohttp.ClientSession | None = None

    def happened(self, what: What, asset: Asset, error: str = "") -> None:
        """Queue what follows; dropped and counted where the queue is full."""
        event = Event(what, asset, error)
        if what == "failed":
            self._put("webhook", event)
            return
        # The CDN first: what is warmed up before it forgets, it would forget, too.
        self._put("purge" if "purge" in self._queues else "warm_up", event)
        self._put("webhook", event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work the queue off meanwhile; at the end what waits is finished, for as long as one piece
        may take with all its tries.
        """
        if not self._queues:
            yield
            return
        timeout = aiohttp.ClientTimeout(total=self._settings.after_timeout_s)
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=jar) as session:
            self._session = session
            # No TaskGroup: what is raised in the block this brackets would come out as a group.
            workers = [
                asyncio.create_task(self._work(kind))
                for kind in self._queues
                for _ in range(_WORKERS)
            ]
            try:
                yield
            finally:
                await self._finish()
                for worker in workers:
                    worker.cancel()
                await asyncio.wait(workers)

    @property
    def _wanted(self) -> list[Kind]:
        settings = self._settings
        wanted: dict[Kind, bool] = {
            "purge": bool(settings.purge_url),
            "warm_up": self._warm is not None or bool(settings.warm_url),
            "webhook": bool(settings.webhook_url),
        }
        return [kind for kind, is_wanted in wanted.items() if is_wanted]

    def _put(self, kind: Kind, event: Event) -> None:
        queue = self._queues.get(kind)
        if queue is None or (kind == "warm_up" and event.what == "deleted"):
            return
        try:
            queue.put_nowait(event)
            metrics.AFTER_INGEST_WAITING.inc()
        except asyncio.QueueFull:
            metrics.AFTER_INGEST.labels(kind, "dropped").inc()
            log.warning(
                "after-ingest work dropped", extra={"what": kind, "asset": str(event.asset.id)}
            )

    async def _finish(self) -> None:
        tries = self._settings.after_tries
        longest_s = tries * self._settings.after_timeout_s + _FIRST_PAUSE_S * 2**tries
        try:
            async with asyncio.timeout(longest_s):
                for queue in self._queues.values():  # purge first: warm-up gets more of it
                    await queue.join()
        except TimeoutError:
            waiting = sum(queue.qsize() for queue in self._queues.values())
            log.warning("after-ingest work left undone", extra={"waiting": waiting})

    async def _work(self, kind: Kind) -> None:
        queue = self._queues[kind]
        while True:
            event = await queue.get()
            try:
                await self._one(kind, event)
            except Exception:  # the next event is not to wait for ever
                log.exception("after-ingest work broke down")
            finally:
                queue.task_done()
                metrics.AFTER_INGEST_WAITING.dec()

    async def _one(self, kind: Kind, event: Event) -> None:
        match kind:
            case "purge":
                await self._tried(kind, event, self._purge)
                self._put("warm_up", event)
            case "warm_up":
                if self._warm is not None:
                    await self._tried(kind, event, self._warm_source)
                if self._settings.warm_url:
                    await self._tried(kind, event, self._warm_address)
            case "webhook":
                await self._tried(kind, event, self._tell)

    async def _tried(
        self, name: Kind, event: Event, work: Callable[[Event], Awaitable[None]]
    ) -> None:
        reason = ""
        for turn in range(self._settings.after_tries):
            if turn:
                await asyncio.sleep(_FIRST_PAUSE_S * 2 ** (turn - 1) * random.uniform(0.5, 1))  # noqa: S311  jitter
            try:
                await work(event)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                reason = type(error).__name__ if not str(error) else str(error)[:200]
            except OrchestratorError as error:
                reason = error.public
            else:
                metrics.AFTER_INGEST.labels(name, "done").inc()
                return
        metrics.AFTER_INGEST.labels(name, "failed").inc()
        log.warning(
            "after-ingest work failed",
            extra={"what": name, "asset": str(event.asset.id), "reason": reason},
        )

    async def _warm_source(self, event: Event) -> None:
        if self._warm is not None:
            await self._warm(event.asset)

    async def _warm_address(self, event: Event) -> None:
        name = quote(str(event.asset.id), safe="")
        await self._ask("GET", self._settings.warm_url.replace("{id}", name), {}, None)

    async def _purge(self, event: Event) -> None:
        key = event.asset.id.surrogate_key
        headers = {"Surrogate-Key": key, "Cache-Tag": key, "xkey-purge": key}
        headers |= _plain(self._settings.purge_headers)
        body = {"surrogate_keys": [key], "tags": [key]}
        await self._ask(self._settings.purge_method, self._settings.purge_url, headers, body)

    async def _tell(self, event: Event) -> None:
        asset = event.asset
        body = {
            "event": event.what,
            "id": str(asset.id),
            "customer": asset.id.customer,
            "space": asset.id.space,
            "name": asset.id.name,
            "version": asset.version,
            "width": asset.width,
            "height": asset.height,
            "state": str(asset.state),
            "error": event.error,
        }
        headers = _plain(self._settings.webhook_headers)
        await self._ask("POST", self._settings.webhook_url, headers, body)

    async def _ask(
        self, method: str, address: str, headers: Mapping[str, str], body: dict[str, Any] | None
    ) -> None:
        assert self._session is not None, "used while not running"  # noqa: S101  a programming error
        given = {"Content-Type": "application/json", **headers} if body is not None else headers
        data = orjson.dumps(body) if body is not None else None
        async with self._session.request(
            method, address, headers=given, data=data, allow_redirects=False
        ) as response:
            if response.status >= 400:
                raise ValueError(f"{response.status} was answered")


def _plain(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in headers.items()}
