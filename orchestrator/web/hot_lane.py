"""The hot lane: answers a plain request for a response in memory inside the protocol object, before
aiohttp builds a Request, and passes everything else to aiohttp unchanged.

The one invariant: the hot lane answers only while aiohttp's parser is between two messages, no
message waits or is being handled, and the bytes just read are exactly one plain GET or HEAD. In
case of doubt the request takes aiohttp's way, in order. docs/adr/0005-hot-tier-in-the-protocol.md
says why this is not a handler.
"""

from __future__ import annotations

import time
from typing import Any

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

from orchestrator.cache.disk.body_files import BodyFile
from orchestrator.cache.hot.memory_files import MemoryFile
from orchestrator.web.access_log import format_line
from orchestrator.web.conditional_requests import evaluate_conditions
from orchestrator.web.connection_deadlines import DeadlineProtocol
from orchestrator.web.header_profile import VERSION_LINE, HeaderProfile, parse_header_profile
from orchestrator.web.hot_entries import HotEntry
from orchestrator.web.port_state import PortState
from orchestrator.web.responses import make_access_record
from orchestrator.web.socket_sender import SocketSender

BLANK = b"\r\n\r\n"
HEAD = b"HEAD "
MAX_PIECES = 32


class HotLaneProtocol(DeadlineProtocol):
    """The protocol of one connection, with the hot lane in front of aiohttp's parser."""

    __slots__ = (
        "_at_boundary",
        "_hot_at",
        "_known_block",
        "_known_profile",
        "_peer",
        "_send",
        "_sender",
        "_write",
    )

    def __init__(self, manager: Any, port_state: PortState, **options: Any) -> None:
        super().__init__(manager, port_state, **options)
        self._at_boundary = True  # aiohttp's parser is between two messages
        self._known_block = b""
        self._known_profile: HeaderProfile | None = None
        self._peer: object = None
        self._hot_at = 0.0
        self._sender: SocketSender | None = None
        self._send: Any = None
        self._write: Any = None

    def connection_made(self, transport: Any) -> None:
        """Accept the connection."""
        self._peer = transport.get_extra_info("peername")
        self._write = transport.write
        self._sender = SocketSender(transport)
        self._send = self._sender.send
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the socket before the transport closes it."""
        if self._sender is not None:
            self._sender.release()
        self._sender = self._send = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer if `data` is exactly one plain request for what needs no waiting; else pass it to
        aiohttp.
        """
        waiter = self._waiter
        # Without a waiter, aiohttp handles a message, or has not begun with a new connection.
        is_new = waiter is None and not self._request_count and not self._force_close
        is_idle = is_new if waiter is None else not waiter.done()
        if self._at_boundary and is_idle and not self._paused:
            line, _, block = data.partition(VERSION_LINE)
            profile = self._known_profile if block == self._known_block else self._learn(block)
            if profile is not None:
                is_get = line.startswith(b"GET ")
                target = line[4:] if is_get else line[len(HEAD) :]
                port_state = self._port_state
                entry = port_state.find_entry((profile.base, "", target)) or port_state.find_entry(
                    (profile.base, profile.variant, target)
                )
                if entry is not None:
                    if is_get and profile.is_plain:
                        self._answer(entry, entry.file)
                        return
                    if self._answer_conditional(data, entry, profile, entry.file):
                        return
                elif is_get and self._answer_direct(data, target, profile):
                    return
        self._feed_parser(data)

    def _answer_direct(self, data: bytes, target: bytes, profile: HeaderProfile) -> bool:
        """Answer a GET with what is not in memory but needs no waiting. False if there is none."""
        found = self._port_state.find_direct(profile, target)
        if found is None:
            return False
        entry, file = found
        if profile.is_plain:
            self._answer(entry, file)
            return True
        return self._answer_conditional(data, entry, profile, file)

    def _answer(self, entry: HotEntry, file: MemoryFile | BodyFile | None) -> None:
        """Send `entry` to a plain GET. Every hot answer pays for each instruction here."""
        port_state = self._port_state
        port_state.request_count = number = port_state.request_count + 1
        if file is None:
            self._write(
                b"".join((entry.head, port_state.date_and_id, b"%x\r\n\r\n" % number, entry.body))
            )
        else:
            self._send(b"".join((entry.head, port_state.date_and_id, b"%x\r\n\r\n" % number)), file)
        self._hot_at = port_state.now
        tally = port_state.tallies_of_200[entry.tally]
        tally.count += 1
        tally.bytes += entry.length
        if port_state.access_log is not None:
            milliseconds = min(999, int((time.time() - port_state.second) * 1000))
            port_state.access_log.write(
                b'%b%03dZ", "requestId": "%b-%x", %b'
                % (port_state.log_time, milliseconds, port_state.log_id, number, entry.log_rest)
            )

    def _answer_conditional(
        self,
        data: bytes,
        entry: HotEntry,
        profile: HeaderProfile,
        file: MemoryFile | BodyFile | None,
    ) -> bool:
        """Answer HEAD, If-None-Match and a request with a request id of its own from memory. Return
        False for any method but GET and HEAD.
        """
        port_state = self._port_state
        is_get = data.startswith(b"GET ")
        if not is_get and not data.startswith(HEAD):
            return False
        number = port_state.next_id().encode()
        request_id = profile.request_id or number
        conditions = {"If-None-Match": profile.none_match} if profile.none_match else {}
        unchanged = evaluate_conditions(conditions, entry.etag, None) == "not-modified"
        head, status = (entry.head_not_modified, 304) if unchanged else (entry.head, 200)
        length = entry.length if status == 200 and is_get else 0
        head = b"%b%b%b\r\n\r\n" % (head, port_state.date, request_id)
        if length and file is not None:
            self._send(head, file)
        else:
            self._write(head + entry.body if length else head)
        self._hot_at = port_state.now
        tally = port_state.tallies[entry.tally, status]
        tally.count += 1
        tally.bytes += length
        if port_state.access_log is not None:
            record = make_access_record(
                entry.delivery, status, length, "GET" if is_get else "HEAD", entry.target
            )
            port_state.access_log.write(format_line(record, request_id.decode()))
        return True

    def _learn(self, block: bytes) -> HeaderProfile | None:
        """Return the profile of a header block that differs from the last one, and remember it."""
        port_state = self._port_state
        if not block.endswith(BLANK):
            return None
        self._known_block = block
        self._known_profile = parse_header_profile(
            block, port_state.addresses, self._peer, port_state.auth_cookie
        )
        return self._known_profile

    # --- aiohttp's way ----------------------------------------------------------------------------

    def _feed_parser(self, data: bytes) -> None:
        """Pass bytes to aiohttp's parser, and record whether it is then between two messages."""
        at_boundary, before = self._at_boundary, self._request_count
        waiter = self._waiter
        is_idle = waiter is not None and not waiter.done()
        for piece in split_after_blank_lines(data):
            super().data_received(piece)
            if self._has_broken_message():
                break
        arrived = self._request_count - before
        self._at_boundary = self._is_between_messages(data, at_boundary, arrived)
        if arrived or not data:
            self._header_late_since = 0.0
        elif is_idle and not self._header_late_since:
            self._header_late_since = self._port_state.now

    def _has_broken_message(self) -> bool:
        return bool(self._messages) and not isinstance(self._messages[-1][0], RawRequestMessage)

    def _is_between_messages(self, data: bytes, at_boundary: bool, arrived: int) -> bool:
        """Return True if the parser, after `data`, is certainly between two messages and keeps no
        bytes back.

        One of two cases: the last message that arrived has no body and `data` ends in a blank line
        (whatever followed that message would be a message, too); or `data` is one message with a
        body, from its first byte to its last.
        """
        if not arrived or not self._messages or self._upgraded or self._has_broken_message():
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
        """Run aiohttp's check of the keep-alive time. Hot answers count as use of the connection,
        although they do not touch aiohttp's timer.
        """
        close_time = self._next_keepalive_close_time
        if self._hot_at:
            age_s = time.monotonic() - self._hot_at
            close_time = max(close_time, self._loop.time() - age_s + self._keepalive_timeout)
            self._next_keepalive_close_time = close_time
        super()._process_keepalive()


def split_after_blank_lines(data: bytes) -> list[bytes]:
    """Return `data` cut after each blank line. aiohttp's parser drops complete requests that stand
    before a broken one in the same read.
    """
    if data.find(BLANK) in (-1, len(data) - len(BLANK)):
        return [data]
    parts = data.split(BLANK, MAX_PIECES)
    return [part + BLANK for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
