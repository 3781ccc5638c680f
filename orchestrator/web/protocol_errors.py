"""Errors that the application never sees: broken HTTP messages, and connections that are refused.
They are answered with the same JSON as every other error.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler

from orchestrator import metrics
from orchestrator.web.access_log import AccessRecord, format_line
from orchestrator.web.error_table import (
    Problem,
    encode_problem,
    log_problem,
    make_problem,
    make_status_problem,
)
from orchestrator.web.port_state import PortState
from orchestrator.web.responses import COMMON_HEADERS


class JsonErrorProtocol(RequestHandler):
    """aiohttp's RequestHandler with our error responses instead of aiohttp's texts."""

    __slots__ = ("_port_state",)

    def __init__(self, manager: Any, port_state: PortState, **options: Any) -> None:
        super().__init__(manager, **options)
        self._port_state = port_state

    async def finish_response(
        self, request: Any, resp: Any, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the response. An error that aiohttp itself made (a failed Expect) is replaced."""
        if isinstance(resp, web.HTTPException):
            resp = self._error_response(request, make_problem(resp))
        if self._close or self._port_state.draining:
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: Any,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to a broken HTTP message, or to an error that no middleware caught.
        It never repeats bytes of the message.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("the response has already begun")
        if isinstance(exc, HttpProcessingError):
            problem = make_status_problem(status_of_http_error(exc))
        else:
            problem = make_problem(exc) if exc is not None else make_status_problem(status)
        response = self._error_response(request, problem)
        response.force_close()
        if exc is not None:
            log_problem(exc, problem, response.headers["X-Request-Id"], "")
        metrics.PROTOCOL_ERRORS.labels(str(problem.status)).inc()
        return response

    def _error_response(self, request: Any, problem: Problem) -> web.Response:
        port_state = self._port_state
        request_id = port_state.next_id()
        body = encode_problem(problem, request_id, private=port_state.private)
        if port_state.access_log is not None:
            record = AccessRecord(request_class="broken", status=problem.status, bytes=len(body))
            port_state.access_log.write(format_line(record, request_id))
        return web.Response(
            status=problem.status, headers=error_headers(problem, request_id), body=body
        )


def status_of_http_error(error: HttpProcessingError) -> int:
    """Return 414 for a target and 431 for a header over the parser's limit, else 400."""
    if not isinstance(error, LineTooLong):
        return 400
    line = error.args[0] if error.args else b""  # bytes or bytearray: the beginning of the line
    return 414 if line[:1] == b"/" or line[:4] == b"http" else 431


def error_headers(problem: Problem, request_id: str) -> dict[str, str]:
    """Return the headers of an error that no handler answered."""
    return {
        "Content-Type": "application/json",
        **dict(COMMON_HEADERS),
        "Cache-Control": "no-store",
        "X-Request-Id": request_id,
        **dict(problem.headers),
    }


def encode_last_response(problem: Problem, port_state: PortState) -> bytes:
    """Return a complete response as bytes, the last one on its connection."""
    request_id = port_state.next_id()
    body = encode_problem(problem, request_id, private=port_state.private)
    headers = error_headers(problem, request_id) | {
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {problem.status} {web.Response(status=problem.status).reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
