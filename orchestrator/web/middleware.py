"""What surrounds every handler: request id, preflight, admission, memory, errors in one shape,
counting, the access log.

One middleware, because each step needs what the one before knows. Handlers raise; nothing here
decides what a picture is.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from multidict import CIMultiDict
from prometheus_client import Counter, Histogram

from orchestrator import metrics
from orchestrator.errors import Overloaded
from orchestrator.web.access_log import AccessRecord, format_line
from orchestrator.web.error_table import (
    RETRY_AFTER_S,
    encode_problem,
    error_cache_control,
    log_problem,
    make_problem,
)
from orchestrator.web.header_profile import client_request_id
from orchestrator.web.port_state import PortState
from orchestrator.web.responses import (
    COMMON_HEADERS,
    METHODS,
    OUTCOME,
    PREFLIGHT,
    REQUEST_CLASS,
    REQUEST_ID,
    make_access_record,
    request_variant,
    respond,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Counted = tuple[Counter, Histogram, Counter]


class PortMiddleware:
    """The middleware of one port: `web.Application(middlewares=[gate.handle])`."""

    def __init__(self, port_state: PortState, *, cache_error: str, cache_secret: str) -> None:
        """`cache_error` and `cache_secret` are the Cache-Control values of errors (settings,
        section delivery).
        """
        self._port_state = port_state
        self._cache_error = cache_error
        self._cache_secret = cache_secret
        self._counted: dict[tuple[str, int, str], _Counted] = {}

    @web.middleware
    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer, whatever happens; only a cancelled request is left alone."""
        started = time.perf_counter()
        port_state = self._port_state
        request[REQUEST_ID] = client_request_id(request.headers) or port_state.next_id()
        port_state.in_progress += 1
        try:
            response = await self._answer(request, handler)
        except Exception as error:  # the one place where everything is caught: an answer is owed
            response = self._problem(request, error)
        finally:
            port_state.in_progress -= 1
        self._finish(request, response, time.perf_counter() - started)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        port_state = self._port_state
        base = port_state.addresses.resolve_request(
            request
        ).base  # a malformed Host is refused on every path
        if request.method == "OPTIONS":
            return preflight(request)
        if port_state.in_progress > port_state.limits.max_requests:
            metrics.REFUSED.labels("request").inc()
            raise Overloaded("Too busy just now; try again shortly.", RETRY_AFTER_S)
        return self._from_memory(request, base) or await handler(request)

    def _from_memory(self, request: web.Request, base: str) -> web.Response | None:
        """What the fast lane left to us although memory has it: conditions, ranges, pipelined
        requests.
        """
        port_state = self._port_state
        headers = request.headers
        if (
            port_state.hot is None
            or request.method not in ("GET", "HEAD")
            or "Authorization" in headers
        ):
            return None
        if port_state.auth_cookie in headers.get("Cookie", "") or not request.raw_path.isascii():
            return None
        target = request.raw_path.encode("ascii")
        entry = port_state.hot.get((base, "", target))
        if entry is None:
            entry = port_state.hot.get((base, request_variant(request), target))
        return respond(request, entry.whole()) if entry is not None else None

    def _problem(self, request: web.Request, error: Exception) -> web.Response:
        problem = make_problem(error)
        request_id = request[REQUEST_ID]
        log_problem(error, problem, request_id, request.raw_path[:500])
        headers = CIMultiDict(problem.headers)
        headers["Cache-Control"] = error_cache_control(
            problem.status, self._cache_error, self._cache_secret
        )
        headers["Content-Type"] = "application/json"
        body = encode_problem(problem, request_id, private=self._port_state.private)
        return web.Response(status=problem.status, headers=headers, body=body)

    def _finish(self, request: web.Request, response: web.StreamResponse, elapsed_s: float) -> None:
        """Headers that every answer has, figures, and the line in the access log."""
        if not response.prepared:
            for name, value in COMMON_HEADERS:
                response.headers.setdefault(name, value)
            response.headers["X-Request-Id"] = request[REQUEST_ID]
        sent = _body_bytes(request, response)
        delivery = request.get(OUTCOME)
        tier = delivery.tier if delivery is not None else ""
        kind = (
            delivery.request_class if delivery is not None else request.get(REQUEST_CLASS, "other")
        )
        requests, seconds, volume = self._instruments(tier, response.status, kind)
        requests.inc()
        seconds.observe(elapsed_s)
        volume.inc(sent)
        if self._port_state.access_log is not None:
            access = AccessRecord(
                request_class=kind,
                status=response.status,
                bytes=sent,
                ms=elapsed_s * 1000,
                method=request.method,
                target=request.raw_path,
            )
            if delivery is not None:
                access = make_access_record(
                    delivery,
                    response.status,
                    sent,
                    request.method,
                    request.raw_path,
                    ms=elapsed_s * 1000,
                )
            self._port_state.access_log.write(format_line(access, request[REQUEST_ID]))

    def _instruments(self, tier: str, status: int, kind: str) -> _Counted:
        key = (tier, status, kind)
        if key not in self._counted:
            self._counted[key] = (
                metrics.REQUESTS.labels(tier, str(status), kind),
                metrics.REQUEST_SECONDS.labels(tier, kind),
                metrics.RESPONSE_BYTES.labels(tier),
            )
        return self._counted[key]


def preflight(request: web.Request) -> web.Response:
    """204 to any OPTIONS: what a script of another origin may send here (Fetch standard)."""
    allowed = METHODS
    refusal = request.match_info.http_exception
    if isinstance(refusal, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted({*refusal.allowed_methods, "OPTIONS"}))
    headers = {**dict(PREFLIGHT), "Access-Control-Allow-Methods": allowed, "Allow": allowed}
    return web.Response(status=204, headers=headers)


def _body_bytes(request: web.Request, response: web.StreamResponse) -> int:
    body = getattr(response, "body", None)
    if request.method == "HEAD" or response.status == 304 or not isinstance(body, bytes):
        return 0
    return len(body)
