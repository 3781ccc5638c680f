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
_WORKERS = 2
_FIRST_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to an asset."""

    what: What
    asset: Asset
    error: str = ""


class AfterIngest:
    """The queue of what happened, and the tasks that work it off while `running`."""

    def __init__(self, settings: Ingest, warm: Warm | None = None) -> None:
        self._settings = settings
        self._warm = warm if settings.warm_up else None
        self._queue: asyncio.Queue[Event] = asyncio.Queue(settings.after_queue)
        self._session: aiohttp.ClientSession | None = None

    def happened(self, what: What, asset: Asset, error: str = "") -> None:
        """Queue what follows; dropped and counted when the queue is full."""
        if not self._wanted:
            return
        try:
            self._queue.put_nowait(Event(what, asset, error))
            metrics.AFTER_INGEST_WAITING.inc()
        except asyncio.QueueFull:
            for name in self._wanted:
                metrics.AFTER_INGEST.labels(name, "dropped").inc()
            log.warning("after-ingest work dropped", extra={"asset_id": str(asset.id)})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work the queue off meanwhile; at the end what waits is finished, for as long as one piece
        may take with all its tries.
        """
        if not self._wanted:
            yield
            return
        timeout = aiohttp.ClientTimeout(total=self._settings.after_timeout_s)
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=jar) as session:
            self._session = session
            # No TaskGroup: what is raised in the block this brackets would come out as a group.
            workers = [asyncio.create_task(self._work()) for _ in range(_WORKERS)]
            try:
                yield
            finally:
                await self._finish()
                for worker in workers:
                    worker.cancel()
                await asyncio.wait(workers)

    @property
    def _wanted(self) -> list[str]:
        settings = self._settings
        wanted = {
            "purge": bool(settings.purge_url),
            "warm_up": self._warm is not None or bool(settings.warm_url),
            "webhook": bool(settings.webhook_url),
        }
        return [name for name, is_wanted in wanted.items() if is_wanted]

    async def _finish(self) -> None:
        tries = self._settings.after_tries
        longest_s = tries * self._settings.after_timeout_s + _FIRST_PAUSE_S * 2**tries
        try:
            async with asyncio.timeout(longest_s):
                await self._queue.join()
        except TimeoutError:
            log.warning("after-ingest work left undone", extra={"waiting": self._queue.qsize()})

    async def _work(self) -> None:
        while True:
            event = await self._queue.get()
            try:
                await self._one(event)
            except Exception:  # the next event is not to wait for ever
                log.exception("after-ingest work broke down")
            finally:
                self._queue.task_done()
                metrics.AFTER_INGEST_WAITING.dec()

    async def _one(self, event: Event) -> None:
        """The CDN first: what is warmed up before it forgets, it would forget, too."""
        settings = self._settings
        if settings.purge_url and event.what != "failed":
            await self._tried("purge", event, self._purge)
        if event.what in ("ingested", "changed"):
            if self._warm is not None:
                await self._tried("warm_up", event, self._warm_source)
            if settings.warm_url:
                await self._tried("warm_up", event, self._warm_address)
        if settings.webhook_url:
            await self._tried("webhook", event, self._tell)

    async def _tried(
        self, name: str, event: Event, work: Callable[[Event], Awaitable[None]]
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
            extra={"what": name, "asset_id": str(event.asset.id), "reason": reason},
        )

    async def _warm_source(self, event: Event) -> None:
        if self._warm is not None:
            await self._warm(event.asset)

    async def _warm_address(self, event: Event) -> None:
        name = quote(str(event.asset.id), safe="")
        await self._ask("GET", self._settings.warm_url.replace("{id}", name), {}, None)

    async def _purge(self, event: Event) -> None:
        key = surrogate_key(event.asset)
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


def surrogate_key(asset: Asset) -> str:
    """Return what answers about the asset carry as Surrogate-Key."""
    return f"asset-{quote(str(asset.id), safe='')}"


def _plain(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in headers.items()}
