"""The access log: one JSON object per line. docs/access-log.md describes the fields and their
order; the cache simulator reads them.

Writing never waits: lines are collected in a bounded buffer, and a thread writes them. When the
buffer is full, lines are dropped and counted.
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
from orchestrator.exception_text import describe_error
from orchestrator.fault_log import FaultLog

log = logging.getLogger(__name__)
CHUNK_LINES = 64
MAX_CHUNKS = 2_000
"""The buffer holds at most 64 times as many lines: about 40 MB, which the fastest process fills in
a second.
"""
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
    """One answered request, without its time and id."""

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
    """Return a line from the field after requestId to its end. Hot entries keep it ready-made."""
    fields = {
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
    return json.dumps(fields)[1:].encode() + b"\n"


def format_line(access: AccessRecord, request_id: str, moment: float | None = None) -> bytes:
    """Return a complete line for a request answered at `moment` (seconds since 1970; default
    now).
    """
    at = time.time() if moment is None else moment
    second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    head = b'{"time": "%b.%03dZ", "requestId": %b, '
    return head % (
        second.encode(),
        int(at % 1 * 1000),
        json.dumps(request_id).encode(),
    ) + format_line_end(access)


class AccessLog:
    """Appends lines to a file, or to standard output for `-`. Only the thread of the event loop
    calls `write`.

    That thread also joins lines into chunks, so that the writing thread holds the interpreter lock
    only for short times. When the writing thread joined them, 50 ms of lines made the slowest
    answers four times slower (loadtests/micro/bench_hot.py).
    """

    def __init__(self, target: str) -> None:
        """Opens the file (its folder must exist) and starts the writing thread."""
        self._target = target
        self._lines: deque[bytes] = deque()
        self._chunks: deque[bytes] = deque()
        self._join_lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._reopen_requested = False
        self._faults = FaultLog(log, "access log not written", "access log written again")
        self._descriptor = self._open()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line with its newline. It is dropped and counted if the buffer is full."""
        lines = self._lines
        lines.append(line)
        if len(lines) >= CHUNK_LINES:
            self._join_lines()
        elif len(lines) == 1:
            self._wake.set()

    def reopen(self) -> None:
        """Continue in a new file of the same name, after the old one was moved away (SIGHUP)."""
        self._reopen_requested = True
        self._wake.set()

    def close(self) -> None:
        """Write the remaining lines and stop the thread. Blocks until the disk has taken them."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._close_file()

    def _join_lines(self) -> None:
        """Join the waiting lines into one chunk. Both threads do this, so a lock keeps their
        order.
        """
        with self._join_lock:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if len(self._chunks) < MAX_CHUNKS:
                self._chunks.append(b"".join(lines))
            else:
                metrics.ACCESS_LOG_DROPPED.inc(len(lines))

    def _run(self) -> None:
        closing = False
        while not closing:
            self._wake.wait()
            if not self._closing:
                time.sleep(FLUSH_S)  # so that a busy second has a hundred rounds, not thousands
            self._wake.clear()
            closing = self._closing  # read after clear(): a later close() sets the event again
            try:
                self._run_round()
            except Exception as error:  # the thread must survive any failure of one round; logged
                self._faults.report(bug=error, path=self._target)

    def _run_round(self) -> None:
        self._join_lines()
        self._write_chunks()
        if self._lines:  # a line that arrived during the join did not set the event
            self._wake.set()
        if self._reopen_requested:
            self._reopen_requested = False
            self._replace_file()

    def _write_chunks(self) -> None:
        for _ in range(len(self._chunks)):
            view = memoryview(self._chunks.popleft())
            try:
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError as error:  # a full disk must not stop the log or the service
                metrics.ACCESS_LOG_DROPPED.inc(bytes(view).count(b"\n"))
                self._faults.report(path=self._target, reason=describe_error(error))
            else:
                self._faults.clear(path=self._target)

    def _open(self) -> int:
        if self._target == "-":
            return sys.stdout.fileno()
        return os.open(Path(self._target), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

    def _replace_file(self) -> None:
        """Continue in a new file, or in the present one if none can be opened."""
        try:
            descriptor = self._open()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            log.warning("access log not reopened", extra={"path": self._target, "reason": reason})
            return
        self._close_file()
        self._descriptor = descriptor

    def _close_file(self) -> None:
        if self._target != "-":
            os.close(self._descriptor)


def open_access_log(target: str) -> AccessLog | None:
    """Return the log that the setting `log.access` names; None for `off`."""
    return None if target == "off" else AccessLog(target)
