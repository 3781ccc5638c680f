"""Probes and figures: is this process alive, may it be sent requests, what has it done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import orjson
from aiohttp import web

from orchestrator.metrics import CONTENT_TYPE, render_metrics
from orchestrator.routing.delivery_types import Delivery
from orchestrator.web.responses import respond

Check = Callable[[], Awaitable[str]]
"""What is wrong, in a sentence without addresses or paths; '' when nothing is."""
CHECK_TIMEOUT_S = 5.0


class HealthRoutes:
    """Handlers of /health/live and /health/ready."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    async def live(self, request: web.Request) -> web.StreamResponse:
        """200 while the loop turns."""
        return respond(request, _document(200, {"status": "live"}))

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """200 when every check passes, else 503 with what is wrong by name."""
        found = await asyncio.gather(*(_run(check) for check in self._checks.values()))
        results = {name: problem or "ok" for name, problem in zip(self._checks, found, strict=True)}
        is_ready = not any(found)
        document = {"status": "ready" if is_ready else "not ready", "checks": results}
        return respond(request, _document(200 if is_ready else 503, document))


class MetricsRoute:
    """Handler of /metrics."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is where the processes of this installation keep their figures; None where there
        is but one process.
        """
        self._folder = folder

    async def page(self, request: web.Request) -> web.StreamResponse:
        """All figures of all processes, in Prometheus' text format."""
        body = await asyncio.to_thread(render_metrics, self._folder)
        delivery = Delivery(
            status=200,
            body=body,
            media_type=CONTENT_TYPE,
            tier="",
            request_class="metrics",
            cache_control="no-store",
        )
        return respond(request, delivery)


async def _run(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except TimeoutError:
        return "no answer in time"


def _document(status: int, content: object) -> Delivery:
    headers = (("Retry-After", "1"),) if status == 503 else ()
    return Delivery(
        status=status,
        body=orjson.dumps(content),
        media_type="application/json",
        tier="",
        request_class="health",
        cache_control="no-store",
        headers=headers,
    )
