"""What all connections of one port share: the clock of a second, request ids, tallies, bounds, the
once-a-second round.

One timer a process does what would else be a timer a connection: late headers, stalled readers,
figures for Prometheus.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol

from orchestrator import metrics
from orchestrator.cache.hot.tier import HotTier
from orchestrator.web.access_log import AccessLog
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import HotEntry, HotKey

STALLED_S = 60.0
"""A client that takes no byte of a waiting answer for so long is gone (nginx: send_timeout)."""


class Tally:
    """Answers from memory of one request class and status since the last round."""

    __slots__ = ("bytes", "count")

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0


class _Plain(dict[str, Tally]):
    """The tallies of status 200 by request class alone, which is quicker to look up."""

    def __init__(self, tallies: defaultdict[tuple[str, int], Tally]) -> None:
        super().__init__()
        self._tallies = tallies

    def __missing__(self, request_class: str) -> Tally:
        self[request_class] = tally = self._tallies[request_class, 200]
        return tally


class Connection(Protocol):
    """A connection, as the round sees it."""

    def look(self, now: float) -> None:
        """Close what is overdue; called once a second with `PortState.now`."""
        ...

    def unsent(self) -> int:
        """Bytes of answers still on our side."""
        ...

    def abort(self) -> None:
        """End it now."""
        ...


@dataclass(frozen=True, slots=True)
class PortLimits:
    """How long and how many (settings, section server)."""

    header_timeout_s: float = 15.0
    max_connections: int = 10_000
    max_requests: int = 2_000


class PortState:
    """Shared by the connections of one port. `start` and `stop` bracket its life on the running
    loop.
    """

    def __init__(
        self,
        *,
        addresses: PublicAddressResolver,
        hot: HotTier[HotEntry] | None = None,
        access_log: AccessLog | None = None,
        limits: PortLimits | None = None,
        auth_cookie: str = "",
        private: bool = False,
    ) -> None:
        """`hot` is None on a port that answers nothing from memory; `private` adds detail to
        errors.
        """
        self.addresses = addresses
        self.hot = hot
        self.access_log = access_log
        self.limits = limits or PortLimits()
        self.auth_cookie = auth_cookie or "\0"
        self.private = private
        self.draining = False
        self.in_progress = 0
        self.connections: Callable[[], Iterable[Connection]] = tuple
        self.get: Callable[[HotKey], HotEntry | None] = hot.get if hot is not None else _nothing
        self.tallies: defaultdict[tuple[str, int], Tally] = defaultdict(Tally)
        self.plain_tallies = _Plain(self.tallies)
        self.id_prefix = secrets.token_hex(4)
        self.count = 0
        self.now = time.monotonic()
        self.second = 0
        self.stamp = self.id_stamp = self.log_stamp = b""
        self.log_id = self.id_prefix.encode()
        self._timer: asyncio.TimerHandle | None = None
        self._seen = (0, 0)
        self._set_clock()

    def start(self) -> None:
        """Begin the once-a-second round."""
        self._round()

    def stop(self) -> None:
        """End it, with the figures up to date."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()

    def drain(self) -> None:
        """From now on every answer goes the ordinary way and says `Connection: close`."""
        self.draining = True
        self.get = _nothing

    def next_id(self) -> str:
        """A request id of ours: eight random digits of this process, then a running number."""
        self.count += 1
        return f"{self.id_prefix}-{self.count:x}"

    def flush(self) -> None:
        """Hand what was counted in plain integers to Prometheus."""
        for (request_class, status), tally in self.tallies.items():
            if tally.count:
                metrics.count_fast(tally.count, tally.bytes, request_class, status)
                tally.count = tally.bytes = 0
        if self.hot is not None:
            self._flush_hot(self.hot)

    def _flush_hot(self, hot: HotTier[HotEntry]) -> None:
        stats = hot.stats()
        metrics.MEMORY_BYTES.set(stats.bytes)
        metrics.MEMORY_ENTRIES.set(stats.entries)
        evicted, dropped = self._seen
        metrics.MEMORY_EVICTIONS.inc(stats.evicted - evicted)
        metrics.MEMORY_DROPS.inc(stats.dropped - dropped)
        self._seen = stats.evicted, stats.dropped

    def _round(self) -> None:
        self._set_clock()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(1.001 - time.time() % 1, self._round)
        number = 0
        for connection in self.connections():
            number += 1
            connection.look(self.now)
        if self.hot is not None:
            metrics.CONNECTIONS.set(number)
            metrics.REQUESTS_IN_PROGRESS.set(self.in_progress)
        self.flush()

    def _set_clock(self) -> None:
        self.now = time.monotonic()
        self.second = int(time.time())
        date = formatdate(self.second, usegmt=True)
        self.stamp = f"Date: {date}\r\nX-Request-Id: ".encode()
        self.id_stamp = f"Date: {date}\r\nX-Request-Id: {self.id_prefix}-".encode()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.second))
        self.log_stamp = f'{{"time": "{moment}.'.encode()


def _nothing(_key: HotKey) -> HotEntry | None:
    return None
