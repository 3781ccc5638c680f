"""One connection: answers from the hot tier before a Request is built, and hands everything else to
aiohttp untouched.

The one invariant: a request is answered here only while aiohttp's parser stands at a message
boundary, no message is queued or handled, and the bytes just read are exactly one plain GET or
HEAD. Whatever is in doubt goes the ordinary way, in order. Why here and not in a handler:
docs/adr/0005-hot-tier-in-the-protocol.md.
"""

from __future__ import annotations

import logging
import socket
import time
from os import sendfile
from socket import MSG_MORE
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler

from orchestrator import metrics
from orchestrator.cache.hot.memory_files import MemoryFile
from orchestrator.web.access_log import AccessRecord, format_line
from orchestrator.web.conditional_requests import evaluate_conditions
from orchestrator.web.error_table import (
    Problem,
    encode_problem,
    log_problem,
    make_problem,
    make_status_problem,
)
from orchestrator.web.header_profile import VERSION_LINE, HeaderProfile, parse_header_profile
from orchestrator.web.port_state import STALLED_S, PortState
from orchestrator.web.responses import COMMON_HEADERS, HotEntry, make_access_record

log = logging.getLogger(__name__)
BLANK = b"\r\n\r\n"
HEAD = b"HEAD "
MAX_PIECES = 32


class HotLaneProtocol(RequestHandler):
    """aiohttp's RequestHandler with a fast lane in front and our own words for broken messages."""

    __slots__ = (
        "_block",
        "_buffered",
        "_fast_at",
        "_fd",
        "_framed",
        "_late_since",
        "_peer",
        "_port_state",
        "_profile",
        "_send_head",
        "_socket",
        "_stalled_since",
        "_waiting",
        "_wire",
        "_write",
    )

    def __init__(self, manager: Any, port_state: PortState, **options: Any) -> None:
        super().__init__(manager, **options)
        self._port_state = port_state
        self._framed = True  # the parser stands between messages
        self._block = b""
        self._profile: HeaderProfile | None = None
        self._peer: object = None
        self._fast_at = 0.0
        self._late_since = 0.0
        self._stalled_since = 0.0
        self._buffered = 0
        self._wire: Any = None
        self._write: Any = None
        self._waiting: Any = None
        self._socket: socket.socket | None = None
        self._fd = -1
        self._send_head: Any = self._borrow_socket

    # --- the fast lane ----------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Take the connection, or refuse it when there are too many."""
        super().connection_made(transport)
        self._peer = transport.get_extra_info("peername")
        self._wire = transport  # aiohttp forgets its own when it begins to close
        self._write = transport.write
        self._waiting = transport.get_write_buffer_size
        manager = self._manager
        if (
            manager is not None
            and len(manager._connections) > self._port_state.limits.max_connections
        ):
            metrics.REFUSED.labels("connection").inc()
            transport.write(bare_answer(make_status_problem(503), self._port_state))
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the socket back before the transport closes it."""
        if self._socket is not None:
            self._socket.detach()
        self._socket = self._send_head = self._wire = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer from memory if this is exactly one plain request for what is there; else aiohttp's
        way.
        """
        waiter = self._waiter
        if self._framed and waiter is not None and not self._paused and not waiter.done():
            line, _, block = data.partition(VERSION_LINE)
            profile = self._profile if block == self._block else self._learn(block)
            if profile is not None:
                is_get = line.startswith(b"GET ")
                target = line[4:] if is_get else line[len(HEAD) :]
                port_state = self._port_state
                entry = port_state.get((profile.base, "", target)) or port_state.get(
                    (profile.base, profile.variant, target)
                )
                if entry is not None:
                    if is_get and profile.is_plain:
                        self._answer(entry)
                        return
                    if self._answer_specially(data, entry, profile):
                        return
        self._pass_on(data)

    def _answer(self, entry: HotEntry) -> None:
        """Send `entry` to a plain GET. Every instruction here is paid for each hot answer (P1)."""
        port_state = self._port_state
        port_state.count = number = port_state.count + 1
        file = entry.file
        if file is None:
            self._write(
                b"".join((entry.head, port_state.id_stamp, b"%x\r\n\r\n" % number, entry.body))
            )
        else:
            self._send(b"".join((entry.head, port_state.id_stamp, b"%x\r\n\r\n" % number)), file)
        self._fast_at = port_state.now
        tally = port_state.plain_tallies[entry.request_class]
        tally.count += 1
        tally.bytes += entry.length
        if port_state.access_log is not None:
            milliseconds = min(999, int((time.time() - port_state.second) * 1000))
            port_state.access_log.write(
                b'%b%03dZ", "requestId": "%b-%x", %b'
                % (port_state.log_stamp, milliseconds, port_state.log_id, number, entry.log_rest)
            )

    def _answer_specially(self, data: bytes, entry: HotEntry, profile: HeaderProfile) -> bool:
        """HEAD, If-None-Match and a client's own request id: as fast, but not in the same few
        lines. False if the method is none that memory answers.
        """
        port_state = self._port_state
        is_get = data.startswith(b"GET ")
        if not is_get and not data.startswith(HEAD):
            return False
        number = port_state.next_id().encode()
        request_id = profile.request_id or number
        conditions = {"If-None-Match": profile.none_match} if profile.none_match else {}
        unchanged = evaluate_conditions(conditions, entry.etag, None) == "not-modified"
        head, status = (entry.head_unchanged, 304) if unchanged else (entry.head, 200)
        length = entry.length if status == 200 and is_get else 0
        head = b"%b%b%b\r\n\r\n" % (head, port_state.stamp, request_id)
        if length and entry.file is not None:
            self._send(head, entry.file)
        else:
            self._write(head + entry.body if length else head)
        self._fast_at = port_state.now
        tally = port_state.tallies[entry.request_class, status]
        tally.count += 1
        tally.bytes += length
        if port_state.access_log is not None:
            access = make_access_record(
                entry.delivery, status, length, "GET" if is_get else "HEAD", entry.target
            )
            port_state.access_log.write(format_line(access, request_id.decode()))
        return True

    def _send(self, head: bytes, file: MemoryFile) -> None:
        """Head and body straight to the socket, the body without a copy. What the socket does not
        take at once, or refuses, goes the transport's way, which can wait and knows how to fail.
        """
        sent = taken = 0
        if self._waiting() == 0:
            try:
                sent = self._send_head(head, MSG_MORE)
                if sent == len(head):
                    taken = sendfile(self._fd, file.fd, 0, file.length)
            except OSError:
                pass
        if taken < file.length:
            self._write(head[sent:] + file.read(taken))

    def _borrow_socket(self, head: bytes, flags: int) -> int:
        """Send, and from now on by the socket itself: the transport's, as an object that knows
        flags.
        """
        lent = self.transport.get_extra_info("socket")  # type: ignore[union-attr]  # it is connected
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        self._fd = lent.fileno()
        self._socket = socket.socket(lent.family, kind, lent.proto, self._fd)
        self._send_head = self._socket.send
        return self._socket.send(head, flags)

    def _learn(self, block: bytes) -> HeaderProfile | None:
        port_state = self._port_state
        if not block.endswith(BLANK):
            return None
        self._block = block
        self._profile = parse_header_profile(
            block, port_state.addresses, self._peer, port_state.auth_cookie
        )
        return self._profile

    # --- the ordinary way -------------------------------------------------------------------------

    def _pass_on(self, data: bytes) -> None:
        """Feed aiohttp's parser, and note whether it then stands between two messages."""
        at_boundary, before, idle = self._framed, self._request_count, self._is_idle()
        for piece in pieces(data):
            super().data_received(piece)
            if self._broken():
                break
        arrived = self._request_count - before
        self._framed = self._stands_between(data, at_boundary, arrived)
        if arrived or not data:
            self._late_since = 0.0
        elif idle and not self._late_since:
            self._late_since = self._port_state.now

    def _is_idle(self) -> bool:
        waiter = self._waiter
        return waiter is not None and not waiter.done()

    def _broken(self) -> bool:
        return bool(self._messages) and not isinstance(self._messages[-1][0], RawRequestMessage)

    def _stands_between(self, data: bytes, at_boundary: bool, arrived: int) -> bool:
        """Whether the parser, after `data`, certainly stands between two messages with nothing kept
        back.

        The last message that arrived has no body and the bytes end in a blank line: whatever
        followed it would be a message, too. Or: the bytes are one message with a body, from its
        first byte to its last.
        """
        if not arrived or not self._messages or self._upgraded or self._broken():
            return False
        if len(self._messages) >= self._max_msg_queue_size:
            return False
        payload = self._messages[-1][1]
        if payload is EMPTY_PAYLOAD:
            return data.endswith(BLANK)
        if not at_boundary or arrived != 1 or not payload.is_eof():
            return False
        length = getattr(payload, "total_bytes", -1)
        return data.find(BLANK) + len(BLANK) + length == len(data)

    def _process_keepalive(self) -> None:
        """aiohttp's check, knowing that the fast lane does not touch its timer."""
        close_time = self._next_keepalive_close_time
        if self._fast_at:
            fast_age = time.monotonic() - self._fast_at
            close_time = max(close_time, self._loop.time() - fast_age + self._keepalive_timeout)
            self._next_keepalive_close_time = close_time
        super()._process_keepalive()

    def look(self, now: float) -> None:
        """Once a second: end a header that never comes, and a reader that takes nothing, however
        little waits for it and even if we are closing.
        """
        late = self._late_since
        if late and now - late > self._port_state.limits.header_timeout_s:
            self._late_since = 0.0
            metrics.PROTOCOL_ERRORS.labels("408").inc()
            if self.transport is not None:
                self.transport.write(bare_answer(make_status_problem(408), self._port_state))
            self.force_close()
        elif waiting := self.unsent():
            self._look_at_reader(now, waiting)
        else:
            self._stalled_since = 0.0

    def unsent(self) -> int:
        """Bytes of answers that the client's socket has not taken yet."""
        return self._waiting() if self._wire is not None else 0

    def abort(self) -> None:
        """End the connection now, whatever waits."""
        if self._wire is not None:
            self._wire.abort()

    def _look_at_reader(self, now: float, waiting: int) -> None:
        if not self._stalled_since or waiting < self._buffered:
            self._stalled_since = now
        elif now - self._stalled_since > STALLED_S:
            log.info("reader stalled", extra={"waiting_bytes": waiting})
            self.abort()
        self._buffered = waiting

    # --- errors below the application -------------------------------------------------------------

    async def finish_response(
        self, request: Any, resp: Any, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send it; what aiohttp answered in its own words (a failed Expect) is said in ours."""
        if isinstance(resp, web.HTTPException):
            resp = self._said(request, make_problem(resp))
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
        """Our JSON for a broken HTTP message (never an echo of it), or for what no middleware
        caught.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        if isinstance(exc, HttpProcessingError):
            problem = make_status_problem(status_of(exc))
        else:
            problem = make_problem(exc) if exc is not None else make_status_problem(status)
        response = self._said(request, problem)
        response.force_close()
        if exc is not None:
            log_problem(exc, problem, response.headers["X-Request-Id"], "")
        metrics.PROTOCOL_ERRORS.labels(str(problem.status)).inc()
        return response

    def _said(self, request: Any, problem: Problem) -> web.Response:
        port_state = self._port_state
        request_id = port_state.next_id()
        body = encode_problem(problem, request_id, private=port_state.private)
        if port_state.access_log is not None:
            access = AccessRecord(request_class="broken", status=problem.status, bytes=len(body))
            port_state.access_log.write(format_line(access, request_id))
        return web.Response(
            status=problem.status, headers=said_headers(problem, request_id), body=body
        )


def pieces(data: bytes) -> list[bytes]:
    """`data` cut after each blank line, so that an error in one pipelined request does not take
    those before it along.
    """
    if data.find(BLANK) in (-1, len(data) - len(BLANK)):
        return [data]
    parts = data.split(BLANK, MAX_PIECES)
    return [part + BLANK for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def status_of(error: HttpProcessingError) -> int:
    """414 for a target and 431 for a header over the parser's bound, else 400."""
    if not isinstance(error, LineTooLong):
        return 400
    line = error.args[0] if error.args else b""  # bytes or bytearray, the line's beginning
    return 414 if line[:1] == b"/" or line[:4] == b"http" else 431


def said_headers(problem: Problem, request_id: str) -> dict[str, str]:
    """The headers of an error that no handler made."""
    return {
        "Content-Type": "application/json",
        **dict(COMMON_HEADERS),
        "Cache-Control": "no-store",
        "X-Request-Id": request_id,
        **dict(problem.headers),
    }


def bare_answer(problem: Problem, port_state: PortState) -> bytes:
    """A complete answer as bytes, for a connection that gets no further than this."""
    request_id = port_state.next_id()
    body = encode_problem(problem, request_id, private=port_state.private)
    headers = said_headers(problem, request_id) | {
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {problem.status} {web.Response(status=problem.status).reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
