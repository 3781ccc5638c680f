"""The access log: one JSON object a line, these fields in this order, for people, CDNs' analysts
and the simulator.

time (UTC, milliseconds), requestId, asset ("" where there is none), version (0 likewise),
requestClass (info, tile, full, region, thumb, base, page, api, broken ...), canonical (of an image
request), tier (X-Served-From), status, bytes (of the body sent), ms (until the answer was handed
over), method, target (as it was asked). docs/access-log.md says the same.

Writing never waits: lines are kept in a bounded buffer that a thread empties; when it is full they
are dropped and counted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from orchestrator import metrics

log = logging.getLogger(__name__)
CHUNK_LINES = 64
MAX_CHUNKS = 2_000
"""Buffered lines are at most 64 times as many: about 40 MB, a second of the fastest process."""
FLUSH_S = 0.01
MAX_TARGET_CHARS = 1_000
FIELDS = (
    "time",
    "requestId",
    "asset",
    "version",
    "requestClass",
    "canonical",
    "tier",
    "status",
    "bytes",
    "ms",
    "method",
    "target",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRecord:
    """One answered request, but for its time and id."""

    asset: str = ""
    version: int = 0
    request_class: str = ""
    canonical: str = ""
    tier: str = ""
    status: int = 0
    bytes: int = 0
    ms: float = 0.0
    method: str = ""
    target: str = ""


def format_line_end(access: AccessRecord) -> bytes:
    """A line from the field after requestId to its end; ready-made for answers from memory."""
    rest = {
        "asset": access.asset,
        "version": access.version,
        "requestClass": access.request_class,
        "canonical": access.canonical,
        "tier": access.tier,
        "status": access.status,
        "bytes": access.bytes,
        "ms": round(access.ms, 1),
        "method": access.method[:20],
        "target": access.target[:MAX_TARGET_CHARS],
    }
    return json.dumps(rest)[1:].encode() + b"\n"


def format_line(access: AccessRecord, request_id: str, moment: float | None = None) -> bytes:
    """A complete line for a request answered at `moment` (seconds since 1970; now unless given)."""
    at = time.time() if moment is None else moment
    second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    head = b'{"time": "%b.%03dZ", "requestId": %b, '
    return head % (
        second.encode(),
        int(at % 1 * 1000),
        json.dumps(request_id).encode(),
    ) + format_line_end(access)


class AccessLog:
    """Appends lines to a file, or standard output for `-`. `write` belongs to the event loop's
    thread.

    That thread also joins lines into chunks, so that the writing thread holds the interpreter for
    moments only: joined over there, 50 ms of lines made the slowest answers four times slower
    (loadtests/micro/bench_hot.py).
    """

    def __init__(self, target: str) -> None:
        """Opens the file (its folder must exist) and starts the writing thread."""
        self._target = target
        self._lines: deque[bytes] = deque()
        self._chunks: deque[bytes] = deque()
        self._joining = threading.Lock()
        self._wanted = threading.Event()
        self._closing = False
        self._reopen = False
        self._descriptor = self._open()
        self._thread = threading.Thread(target=self._work, name="access-log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line, newline included; dropped and counted when the buffer is full."""
        lines = self._lines
        lines.append(line)
        if len(lines) >= CHUNK_LINES:
            self._join()
        elif len(lines) == 1:
            self._wanted.set()

    def reopen(self) -> None:
        """After the file was moved away (SIGHUP): go on in a new one of the old name."""
        self._reopen = True
        self._wanted.set()

    def close(self) -> None:
        """Write what is left and stop the thread. Blocks for as long as the disk takes."""
        self._closing = True
        self._wanted.set()
        self._thread.join()
        self._shut()

    def _join(self) -> None:
        """Make the waiting lines one chunk; both threads do, so under a lock, which keeps their
        order.
        """
        with self._joining:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if len(self._chunks) < MAX_CHUNKS:
                self._chunks.append(b"".join(lines))
            else:
                metrics.ACCESS_LOG_DROPPED.inc(len(lines))

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            if not self._closing:
                time.sleep(FLUSH_S)  # a busy second is a hundred short rounds, not thousands
            self._wanted.clear()
            closing = self._closing  # after the clear: a close that comes later wakes us again
            self._join()
            self._append()
            if self._lines:  # one more came while we joined, and woke nobody
                self._wanted.set()
            if self._reopen:
                self._reopen = False
                self._open_anew()
            if closing:
                return

    def _append(self) -> None:
        for _ in range(len(self._chunks)):
            view = memoryview(self._chunks.popleft())
            try:
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError:  # a full disk must not end the log for good, nor the service
                metrics.ACCESS_LOG_DROPPED.inc(bytes(view).count(b"\n"))

    def _open(self) -> int:
        if self._target == "-":
            return sys.stdout.fileno()
        return os.open(Path(self._target), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

    def _open_anew(self) -> None:
        """Go on in a new file, or in the one we have where there can be none."""
        try:
            fresh = self._open()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            log.warning("access log not reopened", extra={"path": self._target, "reason": reason})
            return
        self._shut()
        self._descriptor = fresh

    def _shut(self) -> None:
        if self._target != "-":
            os.close(self._descriptor)


def open_access_log(target: str) -> AccessLog | None:
    """The log that `log.access` names; None for `off`."""
    return None if target == "off" else AccessLog(target)
