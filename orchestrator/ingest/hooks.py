"""The hooks that follow a change of an asset: purge of the CDN, warm-up of the source, webhook.

A hook never fails an ingest. Events are queued; the queues and the time of each attempt are
bounded. After `ingest.after_tries` attempts an event is logged, counted and dropped. The processes
of the installation learn of the change from the catalogue (NOTIFY); hooks are for other systems.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import aiohttp
import orjson
from pydantic import SecretStr

from orchestrator import metrics
from orchestrator.backoff import backoff_s
from orchestrator.errors import OrchestratorError, Unavailable
from orchestrator.exception_text import describe_error
from orchestrator.model import Asset
from orchestrator.settings import Ingest

log = logging.getLogger(__name__)
Change = Literal["ingested", "changed", "deleted", "failed"]
WarmUp = Callable[[Asset], Awaitable[object]]
"""Copies the source of an asset to this host's fast disk."""
Hook = Literal["purge", "warm_up", "webhook"]
_WORKERS_PER_HOOK = 2
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """A change of an asset; `error` of an ingest that failed."""

    change: Change
    asset: Asset
    error: str = ""


class ChangeHooks:
    """A queue for each configured hook, so that an outage of one does not delay the others."""

    def __init__(self, settings: Ingest, warm_up: WarmUp | None = None) -> None:
        self._settings = settings
        self._warm_up = warm_up if settings.warm_up else None
        is_configured: dict[Hook, bool] = {
            "purge": bool(settings.purge_url),
            "warm_up": self._warm_up is not None or bool(settings.warm_url),
            "webhook": bool(settings.webhook_url),
        }
        self._queues: dict[Hook, asyncio.Queue[ChangeEvent]] = {
            hook: asyncio.Queue(settings.after_queue)
            for hook, configured in is_configured.items()
            if configured
        }
        self._session: aiohttp.ClientSession | None = None

    def enqueue(self, change: Change, asset: Asset, error: str = "") -> None:
        """Queue the hooks of a change. A full queue drops the event, which is counted."""
        event = ChangeEvent(change, asset, error)
        if change != "failed":
            # Purge before warm-up: the CDN would drop what is warmed up before it.
            self._put("purge" if "purge" in self._queues else "warm_up", event)
        self._put("webhook", event)

    @asynccontextmanager
    async def run_workers(self) -> AsyncIterator[None]:
        """Handle queued events during the block. At its end, events that wait are handled for at
        most as long as one event may take with all its attempts.
        """
        if not self._queues:
            yield
            return
        timeout = aiohttp.ClientTimeout(total=self._settings.after_timeout_s)
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=jar) as session:
            self._session = session
            workers = asyncio.create_task(self._run_workers())  # a group would wrap block errors
            try:
                yield
            finally:
                await self._finish()
                workers.cancel()
                await asyncio.wait([workers])

    def _put(self, hook: Hook, event: ChangeEvent) -> None:
        queue = self._queues.get(hook)
        if queue is None or (hook == "warm_up" and event.change == "deleted"):
            return
        try:
            queue.put_nowait(event)
            metrics.AFTER_INGEST_WAITING.inc()
        except asyncio.QueueFull:
            metrics.AFTER_INGEST.labels(hook, "dropped").inc()
            log.warning(
                "hook dropped, queue full", extra={"hook": hook, "asset": str(event.asset.id)}
            )

    async def _finish(self) -> None:
        tries = self._settings.after_tries
        longest_s = tries * self._settings.after_timeout_s + _FIRST_PAUSE_S * 2**tries
        try:
            async with asyncio.timeout(longest_s):
                for queue in self._queues.values():  # purge first: it queues warm-ups
                    await queue.join()
        except TimeoutError:
            waiting = sum(queue.qsize() for queue in self._queues.values())
            log.warning("hooks dropped at the end of the process", extra={"waiting": waiting})

    async def _run_workers(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for hook in self._queues:
                for _ in range(_WORKERS_PER_HOOK):
                    tasks.create_task(self._work_off(hook))

    async def _work_off(self, hook: Hook) -> None:
        queue = self._queues[hook]
        while True:
            event = await queue.get()
            try:
                await self._handle(hook, event)
            except Exception:  # a bug in one hook must not stop the queue
                log.exception(
                    "hook failed unexpectedly", extra={"hook": hook, "asset": str(event.asset.id)}
                )
            finally:
                queue.task_done()
                metrics.AFTER_INGEST_WAITING.dec()

    async def _handle(self, hook: Hook, event: ChangeEvent) -> None:
        match hook:
            case "purge":
                await self._attempt(hook, event, self._purge)
                self._put("warm_up", event)
            case "warm_up":
                if self._warm_up is not None:
                    await self._attempt(hook, event, self._warm_up_source)
                if self._settings.warm_url:
                    await self._attempt(hook, event, self._request_warm_url)
            case "webhook":
                await self._attempt(hook, event, self._post_webhook)

    async def _attempt(
        self, hook: Hook, event: ChangeEvent, call: Callable[[ChangeEvent], Awaitable[None]]
    ) -> None:
        """Call the hook until it succeeds or its attempts are used up."""
        reason = ""
        for tries in range(self._settings.after_tries):
            if tries:
                pause_s = backoff_s(tries, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
                await asyncio.sleep(pause_s)
            try:
                await call(event)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                reason = describe_error(error)
            except OrchestratorError as error:
                reason = error.public
            else:
                metrics.AFTER_INGEST.labels(hook, "done").inc()
                return
        metrics.AFTER_INGEST.labels(hook, "failed").inc()
        log.warning(
            "hook failed", extra={"hook": hook, "asset": str(event.asset.id), "reason": reason}
        )

    async def _warm_up_source(self, event: ChangeEvent) -> None:
        if self._warm_up is not None:
            await self._warm_up(event.asset)

    async def _request_warm_url(self, event: ChangeEvent) -> None:
        name = quote(str(event.asset.id), safe="")
        await self._request("GET", self._settings.warm_url.replace("{id}", name), {}, None)

    async def _purge(self, event: ChangeEvent) -> None:
        key = event.asset.id.surrogate_key
        headers = {"Surrogate-Key": key, "Cache-Tag": key, "xkey-purge": key}
        headers |= _plain(self._settings.purge_headers)
        body = {"surrogate_keys": [key], "tags": [key]}
        await self._request(self._settings.purge_method, self._settings.purge_url, headers, body)

    async def _post_webhook(self, event: ChangeEvent) -> None:
        asset = event.asset
        body = {
            "event": event.change,
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
        await self._request("POST", self._settings.webhook_url, headers, body)

    async def _request(
        self, method: str, address: str, headers: Mapping[str, str], body: dict[str, Any] | None
    ) -> None:
        assert self._session is not None, "used while not running"  # noqa: S101  a programming error
        data = None
        if body is not None:
            headers = {"Content-Type": "application/json", **headers}
            data = orjson.dumps(body)
        async with self._session.request(
            method, address, headers=headers, data=data, allow_redirects=False
        ) as response:
            if response.status >= 400:
                raise Unavailable(f"The server answered {response.status}.")


def _plain(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in headers.items()}
