"""State that all connections of one port share: the clock, request ids, counts of hot answers,
limits, and the timer that runs once a second.

One timer per port replaces timers per connection: it checks the deadlines of all connections and
passes the counts to Prometheus.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol

from orchestrator import metrics
from orchestrator.cache.disk.body_files import BodyFile
from orchestrator.cache.hot.tier import HotTier
from orchestrator.web.access_log import AccessLog
from orchestrator.web.header_profile import HeaderProfile
from orchestrator.web.hot_entries import HotEntry, HotKey
from orchestrator.web.public_address import PublicAddressResolver

log = logging.getLogger(__name__)


class Tally:
    """Hot answers of one request class and status since the last second."""

    __slots__ = ("bytes", "count")

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0


class _TalliesOf200(dict[str, Tally]):
    """The tallies of status 200 by `HotEntry.tally` alone, which is quicker to look up."""

    def __init__(self, tallies: defaultdict[tuple[str, int], Tally]) -> None:
        super().__init__()
        self._tallies = tallies

    def __missing__(self, name: str) -> Tally:
        self[name] = tally = self._tallies[name, 200]
        return tally


FindDirect = Callable[[HeaderProfile, bytes], tuple[HotEntry, BodyFile | None] | None]
"""(profile, target) -> the response, and its body if that is a file on disk."""


class Connection(Protocol):
    """A connection, as the timer sees it. The layers make this a protocol: the class that
    implements it uses PortState.
    """

    def check_deadlines(self, now: float) -> None:
        """End the connection if it exceeds a limit; called once a second with `PortState.now`."""
        ...

    def unsent_bytes(self) -> int:
        """Return the bytes of responses that the client's socket has not taken yet."""
        ...

    def abort(self) -> None:
        """End the connection now."""
        ...


@dataclass(frozen=True, slots=True)
class PortLimits:
    """Limits of one port (settings, section server)."""

    header_timeout_s: float = 15.0
    max_connections: int = 10_000
    max_requests: int = 2_000


class PortState:
    """Shared by the connections of one port. Call `start` on the running loop, and `stop` at the
    end.
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
        """`hot` is None on a port that answers nothing from memory; `private` adds details to the
        JSON of errors.
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
        self.find_entry: Callable[[HotKey], HotEntry | None] = (
            hot.get if hot is not None else _find_nothing
        )
        self._find_direct: FindDirect | None = None
        self.tallies: defaultdict[tuple[str, int], Tally] = defaultdict(Tally)
        self.tallies_of_200 = _TalliesOf200(self.tallies)
        self.id_prefix = secrets.token_hex(4)
        self.request_count = 0
        self.now = time.monotonic()
        self.second = 0
        # Ready-made for this second: `date` ends where a request id follows, `date_and_id` where
        # the number in a request id of ours follows, `log_time` where the milliseconds follow.
        self.date = self.date_and_id = self.log_time = b""
        self.log_id = self.id_prefix.encode()
        self._timer: asyncio.TimerHandle | None = None
        self._reported = (0, 0)
        self._set_clock()

    def start(self) -> None:
        """Start the timer."""
        self._run_every_second()

    def stop(self) -> None:
        """Stop the timer and report the last counts."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.report_counts()

    def drain(self) -> None:
        """From now on no response comes from the hot lane, and each says `Connection: close`."""
        self.draining = True
        self.find_entry = _find_nothing
        self._find_direct = None

    def answer_directly(self, find: FindDirect) -> None:
        """From now on the hot lane also answers with what `find` finds without waiting."""
        self._find_direct = find

    def find_direct(
        self, profile: HeaderProfile, target: bytes
    ) -> tuple[HotEntry, BodyFile | None] | None:
        """Return what is not in memory but needs no waiting; nothing while too many requests are in
        progress, which aiohttp's way refuses.
        """
        if self._find_direct is None or self.in_progress > self.limits.max_requests:
            return None
        try:
            return self._find_direct(profile, target)
        except Exception:  # a fault of ours: without an answer here, the connection would be cut
            log.exception("direct answer failed")
            return None

    def next_id(self) -> str:
        """Return a new request id: eight random digits of this process, then a number."""
        self.request_count += 1
        return f"{self.id_prefix}-{self.request_count:x}"

    def report_counts(self) -> None:
        """Pass the counts of hot answers and the figures of the hot tier to Prometheus."""
        for (name, status), tally in self.tallies.items():
            if tally.count:
                tier, _, request_class = name.partition(" ")
                metrics.count_fast(tally.count, tally.bytes, request_class, status, tier)
                tally.count = tally.bytes = 0
        if self.hot is not None:
            self._report_hot_tier(self.hot)

    def _report_hot_tier(self, hot: HotTier[HotEntry]) -> None:
        stats = hot.stats()
        metrics.MEMORY_BYTES.set(stats.bytes)
        metrics.MEMORY_ENTRIES.set(stats.files)
        evicted, dropped = self._reported
        metrics.MEMORY_EVICTIONS.inc(stats.evicted - evicted)
        metrics.MEMORY_DROPS.inc(stats.dropped - dropped)
        self._reported = stats.evicted, stats.dropped

    def _run_every_second(self) -> None:
        self._set_clock()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(1.001 - time.time() % 1, self._run_every_second)
        number = 0
        for connection in self.connections():
            number += 1
            connection.check_deadlines(self.now)
        if self.hot is not None:
            metrics.CONNECTIONS.set(number)
            metrics.REQUESTS_IN_PROGRESS.set(self.in_progress)
        self.report_counts()

    def _set_clock(self) -> None:
        self.now = time.monotonic()
        self.second = int(time.time())
        date = formatdate(self.second, usegmt=True)
        self.date = f"Date: {date}\r\nX-Request-Id: ".encode()
        self.date_and_id = f"Date: {date}\r\nX-Request-Id: {self.id_prefix}-".encode()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.second))
        self.log_time = f'{{"time": "{moment}.'.encode()


def _find_nothing(_key: HotKey) -> HotEntry | None:
    return None
