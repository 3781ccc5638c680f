"""The hooks that follow a change of an asset: purge of the CDN, warm-up of the source, webhook.

Each is a job, recorded in the transaction that makes the change: none is lost when a process is
killed, and none can fail an ingest. A job that fails `ingest.after_tries` times is a dead letter.
The processes of the installation learn of the change from the catalogue (NOTIFY); hooks are for
other systems.
"""

from __future__ import annotations

import base64
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from pydantic import SecretStr

from orchestrator import metrics
from orchestrator.catalog.assets import Assets
from orchestrator.catalog.change_jobs import Change
from orchestrator.catalog.jobs import Job, JobDraft
from orchestrator.errors import Unavailable, fault_of
from orchestrator.exception_text import describe_error
from orchestrator.jobs.submitter import Submitter
from orchestrator.model import Asset, AssetId
from orchestrator.settings import Ingest
from orchestrator.work_context import work_context

log = logging.getLogger(__name__)
PURGE, WARM_UP, WEBHOOK = "purge", "warm_up", "webhook"
BATCH_WEBHOOK = "batch_webhook"
"""The kinds of jobs. Those of the last one are recorded by a trigger (migration 0023)."""
WarmUp = Callable[[Asset], Awaitable[object]]
"""Copies the source of an asset to this host's fast disk."""
_NO_CUSTOMER = 0
"""Hooks belong to the installation: they do not wait for the ingests of the asset's customer."""


class HookJobs:
    """Makes the jobs of the configured hooks."""

    def __init__(self, settings: Ingest) -> None:
        self._settings = settings
        self._has_warm_up = settings.warm_up or bool(settings.warm_url)
        self.is_used = False
        """True once this process has made a job."""

    @property
    def kinds(self) -> list[str]:
        """The kinds of jobs that are configured."""
        settings = self._settings
        configured = {
            PURGE: bool(settings.purge_url),
            WARM_UP: self._has_warm_up,
            WEBHOOK: bool(settings.webhook_url),
            BATCH_WEBHOOK: bool(settings.batch_webhook_url),
        }
        return [kind for kind, is_configured in configured.items() if is_configured]

    def jobs_of(self, change: Change, asset: Asset, error: str = "") -> list[JobDraft]:
        """Return the jobs of a change; `error` of an ingest that failed."""
        drafts = []
        if change != "failed":
            # Purge before warm-up: the CDN would drop what is warmed up before it.
            if self._settings.purge_url:
                drafts.append(_draft(PURGE, {"asset": str(asset.id), "event": change}))
            else:
                drafts += self.warm_ups(change, str(asset.id))
        if self._settings.webhook_url:
            drafts.append(_draft(WEBHOOK, _describe(change, asset, error)))
        self.is_used = self.is_used or bool(drafts)
        return drafts

    def warm_ups(self, change: str, asset: str) -> list[JobDraft]:
        """Return the job that warms an asset up after a change, if that is configured."""
        if not self._has_warm_up or change == "deleted":
            return []
        return [_draft(WARM_UP, {"asset": asset})]


class HookHandler:
    """Handles the jobs of hooks. The second run of a job leads to the same result."""

    def __init__(
        self, settings: Ingest, assets: Assets, submitter: Submitter, warm_up: WarmUp
    ) -> None:
        self._settings = settings
        self._assets = assets
        self._submitter = submitter
        self._warm_up = warm_up if settings.warm_up else None

    async def __call__(self, job: Job) -> None:
        """Call the other system. Raises Unavailable."""
        try:
            await self._handle(job)
        except Exception as error:  # counted; the worker settles the job
            metrics.AFTER_INGEST.labels(job.kind, "failed").inc()
            reason = fault_of(error, job.kind).detail
            log.warning("hook failed", extra={"hook": job.kind, "job": job.id, "reason": reason})
            raise
        metrics.AFTER_INGEST.labels(job.kind, "done").inc()

    async def _handle(self, job: Job) -> None:
        match job.kind:
            case "purge":
                await self._purge(AssetId.parse(job.payload["asset"]))
                jobs = HookJobs(self._settings)
                await self._submitter.submit(
                    jobs.warm_ups(job.payload["event"], job.payload["asset"])
                )
            case "warm_up":
                await self._warm(AssetId.parse(job.payload["asset"]))
            case "webhook":
                await self._notify(self._settings.webhook_url, job)
            case "batch_webhook":
                await self._notify(self._settings.batch_webhook_url, job)

    async def _warm(self, asset_id: AssetId) -> None:
        asset = await self._assets.get(asset_id)
        if asset is None or not asset.servable:
            return
        if self._warm_up is not None:
            await self._warm_up(asset)
        if self._settings.warm_url:
            name = quote(str(asset_id), safe="")
            await self._request("GET", self._settings.warm_url.replace("{id}", name), {}, None)

    async def _purge(self, asset_id: AssetId) -> None:
        key = asset_id.surrogate_key
        headers = {"Surrogate-Key": key, "Cache-Tag": key, "xkey-purge": key}
        headers |= _plain(self._settings.purge_headers)
        body = {"surrogate_keys": [key], "tags": [key]}
        await self._request(self._settings.purge_method, self._settings.purge_url, headers, body)

    async def _notify(self, address: str, job: Job) -> None:
        """Call a webhook with the payload of the job. All attempts have the same id."""
        data = orjson.dumps(dict(job.payload))
        headers = {
            "Content-Type": "application/json",
            **_plain(self._settings.webhook_headers),
            **sign(self._settings.webhook_secret.get_secret_value(), f"job_{job.id}", data),
        }
        await self._send("POST", address, headers, data)

    async def _request(
        self, method: str, address: str, headers: Mapping[str, str], body: dict[str, Any] | None
    ) -> None:
        data = None
        if body is not None:
            headers = {"Content-Type": "application/json", **headers}
            data = orjson.dumps(body)
        await self._send(method, address, headers, data)

    async def _send(
        self, method: str, address: str, headers: Mapping[str, str], data: bytes | None
    ) -> None:
        if not address:
            return  # the hook is no longer configured
        headers = {**work_context().headers(), **headers}
        timeout = aiohttp.ClientTimeout(total=self._settings.after_timeout_s)
        jar = aiohttp.DummyCookieJar()
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, cookie_jar=jar) as session,
                session.request(
                    method, address, headers=headers, data=data, allow_redirects=False
                ) as response,
            ):
                status = response.status
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(f"The request failed: {describe_error(error)}.") from error
        if status >= 400:
            raise Unavailable(f"The server answered {status}.")


def sign(secret: str, message: str, body: bytes) -> dict[str, str]:
    """Return the headers that identify and sign a message as Standard Webhooks describes it; none
    without a secret. A receiver refuses old times, so that a copied message is of no use.
    """
    if not secret:
        return {}
    key = secret.encode()
    if secret.startswith("whsec_"):
        key = base64.b64decode(secret.removeprefix("whsec_"))
    at = str(int(time.time()))
    digest = hmac.digest(key, f"{message}.{at}.".encode() + body, "sha256")
    return {
        "webhook-id": message,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _draft(kind: str, payload: dict[str, Any]) -> JobDraft:
    return JobDraft(kind, payload, _NO_CUSTOMER, lane="priority")


def _describe(change: Change, asset: Asset, error: str) -> dict[str, Any]:
    """Return the body of the webhook."""
    return {
        "event": change,
        "id": str(asset.id),
        "customer": asset.id.customer,
        "space": asset.id.space,
        "name": asset.id.name,
        "version": asset.version,
        "width": asset.width,
        "height": asset.height,
        "state": str(asset.state),
        "error": error,
    }


def _plain(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in headers.items()}
