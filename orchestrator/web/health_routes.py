"""Handlers of /health/live, /health/ready and /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import orjson
from aiohttp import web

from orchestrator.metrics import CONTENT_TYPE, render_metrics
from orchestrator.routing.delivery_types import Delivery
from orchestrator.web.responses import respond

Check = Callable[[], Awaitable[str]]
"""Returns the fault in a sentence without addresses or paths; '' if there is none."""
CHECK_TIMEOUT_S = 5.0


class HealthRoutes:
    """Handlers of /health/live and /health/ready."""

    def __init__(
        self, checks: Mapping[str, Check], states: Mapping[str, Check] | None = None
    ) -> None:
        """`states` are shown as checks are, but do not make the process unready."""
        self._checks = checks
        self._states = states or {}

    async def live(self, request: web.Request) -> web.StreamResponse:
        """Answer 200 while the event loop runs."""
        return respond(request, _json_delivery(200, {"status": "live"}))

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """Answer 200 if every check passes, else 503 with the faults by name of the check."""
        checks = {**self._checks, **self._states}
        faults = await asyncio.gather(*(_run_check(check) for check in checks.values()))
        results = {name: fault or "ok" for name, fault in zip(checks, faults, strict=True)}
        is_ready = all(results[name] == "ok" for name in self._checks)
        document = {"status": "ready" if is_ready else "not ready", "checks": results}
        return respond(request, _json_delivery(200 if is_ready else 503, document))


class MetricsRoute:
    """Handler of /metrics."""

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Answer 200 with the metrics of all processes, in the text format of Prometheus."""
        body = await asyncio.to_thread(render_metrics)
        delivery = Delivery(
            status=200,
            body=body,
            media_type=CONTENT_TYPE,
            tier="",
            request_class="metrics",
            cache_control="no-store",
        )
        return respond(request, delivery)


async def _run_check(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except TimeoutError:
        return "The check did not finish in time."


def _json_delivery(status: int, content: object) -> Delivery:
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
