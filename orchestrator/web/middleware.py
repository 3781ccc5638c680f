"""The middleware around every handler: request id, preflight, admission, answers from memory,
the span, errors as JSON, metrics, the access log.

This is one middleware because each step needs values of the step before. Handlers raise their
errors; this module knows nothing of images.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from multidict import CIMultiDict
from prometheus_client import Counter, Histogram

from orchestrator import metrics
from orchestrator.errors import Overloaded
from orchestrator.iiif.negotiation import prefers_html
from orchestrator.tracing import NO_TRACING, Tracing
from orchestrator.web.access_log import AccessRecord, format_line
from orchestrator.web.error_table import (
    PUBLIC_TEXTS,
    RETRY_AFTER_S,
    encode_problem,
    error_cache_control,
    log_problem,
    make_problem,
)
from orchestrator.web.header_profile import client_request_id
from orchestrator.web.page_templates import HTML, PAGES, page_policy
from orchestrator.web.port_state import PortState
from orchestrator.web.responses import (
    COMMON_HEADERS,
    ERROR_FIELDS,
    ERROR_HEADERS,
    ERROR_VARY,
    METHODS,
    OUTCOME,
    PREFLIGHT,
    REQUEST_CLASS,
    REQUEST_ID,
    make_access_record,
    request_variant,
    respond,
)
from orchestrator.work_context import WorkContext, valid_trace_parent, working_for

_SELECTING_HEADERS = ("Authorization", "X-S3-Region", "X-S3-Bucket")
"""Headers that select among answers; no answer from memory depends on them."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Instruments = tuple[Counter, Histogram, Counter]


class PortMiddleware:
    """The middleware of one port: `web.Application(middlewares=[gate.handle])`."""

    def __init__(
        self,
        port_state: PortState,
        *,
        cache_error: str,
        cache_secret: str,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        """`cache_error` and `cache_secret` are the Cache-Control values of errors (settings,
        section delivery). With `tracing` each request that is not answered from memory is a span.
        """
        self._tracing = tracing
        self._port_state = port_state
        self._cache_error = cache_error
        self._cache_secret = cache_secret
        self._instruments: dict[tuple[str, int, str], _Instruments] = {}

    @web.middleware
    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Return a response in every case, except when the request is cancelled."""
        started = time.perf_counter()
        port_state = self._port_state
        request[REQUEST_ID] = client_request_id(request.headers) or port_state.next_id()
        port_state.in_progress += 1
        try:
            response = await self._answer(request, handler)
        except Exception as error:  # every error becomes a response; _error_response logs it
            response = self._error_response(request, error)
        finally:
            port_state.in_progress -= 1
        self._record(request, response, time.perf_counter() - started)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        port_state = self._port_state
        base = port_state.addresses.resolve_request(
            request
        ).base  # raises for a malformed Host, on every path
        if request.method == "OPTIONS" and request.match_info.route.method != "OPTIONS":
            return answer_preflight(request)
        if port_state.in_progress > port_state.limits.max_requests:
            metrics.REFUSED.labels("request").inc()
            raise Overloaded(PUBLIC_TEXTS[503], RETRY_AFTER_S)
        return self._from_memory(request, base) or await self._handle_in_span(request, handler)

    async def _handle_in_span(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = request[REQUEST_ID]
        attributes = {
            "http.request.method": request.method,
            "url.path": request.path,  # not the query, which may have a signature
            "request_id": request_id,
        }
        with self._tracing.span(
            _span_name(request), attributes, kind="server", headers=request.headers
        ) as span:
            parent = span.trace_parent or valid_trace_parent(request.headers.get("traceparent", ""))
            try:
                with working_for(WorkContext(request_id, parent, tracing=self._tracing)):
                    response = await handler(request)
            except Exception as error:  # every error becomes a response; _error_response logs it
                response = self._error_response(request, error)
            span.set_status(response.status)
            if (delivery := request.get(OUTCOME)) is not None:
                span.set("tier", delivery.tier)
            return response

    def _from_memory(self, request: web.Request, base: str) -> web.Response | None:
        """Answer from memory what the hot lane passed on: ranges, other conditions, pipelined
        requests.
        """
        port_state = self._port_state
        headers = request.headers
        if (
            port_state.hot is None
            or request.method not in ("GET", "HEAD")
            or any(name in headers for name in _SELECTING_HEADERS)
        ):
            return None
        if self._has_credentials(request) or not request.raw_path.isascii():
            return None
        target = request.raw_path.encode("ascii")
        entry = port_state.hot.get((base, "", target))
        if entry is None:
            entry = port_state.hot.get((base, request_variant(request), target))
        return respond(request, entry.complete_delivery()) if entry is not None else None

    def _has_credentials(self, request: web.Request) -> bool:
        headers = request.headers
        return "Authorization" in headers or self._port_state.auth_cookie in headers.get(
            "Cookie", ""
        )

    def _error_response(self, request: web.Request, error: Exception) -> web.Response:
        if isinstance(error, ConnectionResetError) and request.transport is None:
            error = web.HTTPBadRequest()  # the client left before the end of its message
        problem = make_problem(error)
        request_id = request[REQUEST_ID]
        log_problem(error, problem, request_id, request.raw_path[:500])
        headers = CIMultiDict(problem.headers)
        headers["Cache-Control"] = (
            self._cache_secret  # the error may tell what only the sender's rights show
            if self._has_credentials(request)
            else error_cache_control(problem.status, self._cache_error, self._cache_secret)
        )
        headers.update(request.get(ERROR_HEADERS, ()))
        vary = request.get(ERROR_VARY, "")
        pages = request.get(PAGES)
        if pages is not None:
            vary = f"{vary}, Accept".lstrip(", ")
        if vary:
            headers["Vary"] = vary
        if pages is not None and prefers_html(request.headers.get("Accept", "")):
            headers["Content-Type"] = HTML
            headers["Content-Security-Policy"] = page_policy()
            body = pages.render_error(problem, request_id)
        else:
            headers["Content-Type"] = "application/json"
            body = encode_problem(
                problem,
                request_id,
                private=self._port_state.private,
                fields=request.get(ERROR_FIELDS, {}),
            )
        return web.Response(status=problem.status, headers=headers, body=body)

    def _record(self, request: web.Request, response: web.StreamResponse, elapsed_s: float) -> None:
        """Set the headers that every response has, update the metrics, write to the access log."""
        if not response.prepared:
            for name, value in COMMON_HEADERS:
                response.headers.setdefault(name, value)
            response.headers["X-Request-Id"] = request[REQUEST_ID]
        sent = _count_body_bytes(request, response)
        delivery = request.get(OUTCOME)
        tier = delivery.tier if delivery is not None else ""
        kind = (
            delivery.request_class if delivery is not None else request.get(REQUEST_CLASS, "other")
        )
        requests, seconds, volume = self._find_instruments(tier, response.status, kind)
        requests.inc()
        seconds.observe(elapsed_s)
        volume.inc(sent)
        if self._port_state.access_log is not None:
            record = AccessRecord(
                request_class=kind,
                status=response.status,
                bytes=sent,
                ms=elapsed_s * 1000,
                method=request.method,
                target=request.raw_path,
            )
            if delivery is not None:
                record = make_access_record(
                    delivery,
                    response.status,
                    sent,
                    request.method,
                    request.raw_path,
                    ms=elapsed_s * 1000,
                )
            self._port_state.access_log.write(format_line(record, request[REQUEST_ID]))

    def _find_instruments(self, tier: str, status: int, kind: str) -> _Instruments:
        key = (tier, status, kind)
        if key not in self._instruments:
            self._instruments[key] = (
                metrics.REQUESTS.labels(tier, str(status), kind),
                metrics.REQUEST_SECONDS.labels(tier, kind),
                metrics.RESPONSE_BYTES.labels(tier),
            )
        return self._instruments[key]


def answer_preflight(request: web.Request) -> web.Response:
    """Answer OPTIONS with 204 and the methods and headers that a script of another site may send
    (Fetch standard).
    """
    allowed = METHODS
    error = request.match_info.http_exception
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))
    headers = {**dict(PREFLIGHT), "Access-Control-Allow-Methods": allowed, "Allow": allowed}
    return web.Response(status=204, headers=headers)


def _span_name(request: web.Request) -> str:
    """The method and the route, as OpenTelemetry's conventions for HTTP say: names of images do not
    belong into the name of a span.
    """
    resource = request.match_info.route.resource
    return request.method if resource is None else f"{request.method} {resource.canonical}"


def _count_body_bytes(request: web.Request, response: web.StreamResponse) -> int:
    body = getattr(response, "body", None)
    if request.method == "HEAD" or response.status == 304 or not isinstance(body, bytes):
        return 0
    return len(body)
