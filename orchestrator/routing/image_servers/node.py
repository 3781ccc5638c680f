"""One image server of a pool: its state and the requests to it.

What it is asked and whether its answer may be used is the matter of `remote_pool`. A failure is an
answer that did not come: no connection, a time-out, a lost connection, or a gateway error.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

import aiohttp
from yarl import URL

from orchestrator import metrics
from orchestrator.routing.image_servers.node_breaker import NodeBreaker
from orchestrator.settings import ImageServerPool
from orchestrator.work_context import work_context

log = logging.getLogger(__name__)
MAX_BYTES = 512 * 1024**2
_GATEWAY_ERRORS = frozenset((502, 503, 504))
_LOST, _TRUNCATED = "connection lost", "truncated"
_REPEATABLE = (_LOST, _TRUNCATED, "length")
"""What a load balancer makes of a server behind it that ends during an answer: nothing, or a 200
that is cut.
"""
_LATENCIES = 100
_FEWEST_LATENCIES = 20

Judge = Callable[[aiohttp.ClientResponse, bytes], str]
"""Why an answer must not be used, in one or two words; '' if it may be used."""


class NodeFailed(Exception):
    """A node sent no answer that can be used. Stays within the image servers, which ask another
    node or report that the pool is unavailable.
    """

    def __init__(self, node: str, reason: str, *, may_repeat: bool = False) -> None:
        """`may_repeat`: the same address may answer at once. The connection was lost, the answer
        was cut, or a load balancer lost the server behind it.
        """
        super().__init__(reason)
        self.node = node
        self.reason = reason
        self.may_repeat = may_repeat


class Node:
    """One address of a pool, as one of our processes sees it."""

    def __init__(
        self, pool: str, address: str, settings: ImageServerPool, on_change: Callable[[], None]
    ) -> None:
        """`on_change` is called when the node has more room, or its state has changed."""
        self.address = address.rstrip("/")
        self.in_flight = 0
        self.is_slow = False
        """True if it did not answer the canary in time. It is asked only if no other node is left.
        """
        self.breaker = NodeBreaker()
        self.answered_at = 0.0
        """When it last sent an answer that was used, by the monotonic clock."""
        self.canary: tuple[str, Judge] | None = None
        """The target of a small image that it has made, and how to judge the answer."""
        self._labels = {"pool": pool, "node": self.address}
        self._settings = settings
        self._on_change = on_change
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._probes = settings.canary_s > 0
        self._report()

    @property
    def may_be_asked(self) -> bool:
        """True if its breaker lets a request through. Only a canary probes a node that has one."""
        return not self.breaker.is_open or (not self._probes and self.breaker.may_probe)

    @property
    def state(self) -> Literal["answers", "slow", "open"]:
        """What this process knows of it; `open` is the state of its breaker."""
        if self.breaker.is_open:
            return "open"
        return "slow" if self.is_slow else "answers"

    @property
    def p95_s(self) -> float | None:
        """The time in which 95 of 100 requests were answered; None as long as few were."""
        if len(self._latencies) < _FEWEST_LATENCIES:
            return None
        return sorted(self._latencies)[int(len(self._latencies) * 0.95)]

    def take(self) -> None:
        """Take one of its connections; `release` gives it back."""
        if self.breaker.is_open:
            self.breaker.on_probe()
        self.in_flight += 1
        metrics.IMAGE_SERVER_IN_FLIGHT.labels(**self._labels).inc()

    def release(self) -> None:
        """The request is done, whatever became of it."""
        self.in_flight -= 1
        metrics.IMAGE_SERVER_IN_FLIGHT.labels(**self._labels).dec()
        self._on_change()

    async def get(
        self, session: aiohttp.ClientSession, target: str, judge: Judge, total_s: float
    ) -> bytes:
        """The body of the answer to `target`, complete within `total_s` seconds. Raises NodeFailed
        if there is none that may be used.
        """
        started = time.monotonic()
        try:
            body, status, problem = await self._fetch(session, target, judge, total_s)
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = _reason_of(error)
            self._on_failure(reason)
            raise NodeFailed(self.address, reason, may_repeat=reason in _REPEATABLE) from error
        if status in _GATEWAY_ERRORS:
            self._on_failure(problem)
            raise NodeFailed(self.address, problem, may_repeat=True)
        self._on_answer(time.monotonic() - started)
        if problem:
            self._record(problem)
            raise NodeFailed(self.address, problem, may_repeat=problem in _REPEATABLE)
        return body

    async def probe(self, session: aiohttp.ClientSession, within_s: float) -> None:
        """Ask for a small image in the same way as for any other, and set the state by the answer.
        The node is `slow` if it does not answer within `within_s` seconds.
        """
        target, judge = self.canary or ("", _accept)
        if self.breaker.is_open:
            self.breaker.on_probe()
        try:
            _, status, problem = await self._fetch(session, target, judge, within_s)
        except aiohttp.ConnectionTimeoutError as error:
            self._on_failure(_reason_of(error))
        except TimeoutError:
            self._set_slow("canary timeout")
        except aiohttp.ClientError as error:
            self._on_failure(_reason_of(error))
        else:
            if problem:  # another image next time: this one may have been replaced
                self.canary = None
            if status >= 500 or (status == 200 and problem):
                self._on_failure(f"canary {problem or status}")
            else:
                self._on_fast_answer()

    async def _fetch(
        self, session: aiohttp.ClientSession, target: str, judge: Judge, total_s: float
    ) -> tuple[bytes, int, str]:
        url = URL(self.address + target, encoded=True)
        timeout = aiohttp.ClientTimeout(
            total=total_s,
            sock_connect=self._settings.connect_timeout_s,
            sock_read=self._settings.first_byte_timeout_s,
        )
        headers = work_context().headers()
        async with session.get(
            url, headers=headers, allow_redirects=False, timeout=timeout
        ) as answer:
            body = await _read_bounded(answer)
            return body, answer.status, judge(answer, body)

    def _on_answer(self, elapsed_s: float) -> None:
        self._latencies.append(elapsed_s)
        p95_s = self.p95_s
        metrics.IMAGE_SERVER_LATENCY.labels(**self._labels).set(
            sum(self._latencies) / len(self._latencies) if p95_s is None else p95_s
        )
        if elapsed_s < self._settings.canary_s or not self._probes:
            self._on_fast_answer()
        elif self.breaker.on_success():  # the late answer to an old request, so it may be slow yet
            self._on_better()

    def _on_fast_answer(self) -> None:
        self.answered_at = time.monotonic()
        was_slow, self.is_slow = self.is_slow, False
        if self.breaker.on_success() or was_slow:
            self._on_better()

    def _on_better(self) -> None:
        log.info("image server answers again", extra={"node": self.address})
        self._report()
        self._on_change()

    def _on_failure(self, reason: str) -> None:
        self._record(reason)
        if self.breaker.on_failure():
            log.warning("image server away", extra={"node": self.address, "reason": reason})
            self._report()
            self._on_change()

    def _set_slow(self, reason: str) -> None:
        self._record(reason)
        if not self.is_slow:
            self.is_slow = True
            log.warning("image server slow", extra={"node": self.address})
            self._report()
            self._on_change()

    def _record(self, reason: str) -> None:
        metrics.IMAGE_SERVER_FAILURES.labels(**self._labels, reason=reason).inc()
        metrics.IMAGE_SERVER_LAST_FAILURE.labels(**self._labels, reason=reason).set(time.time())

    def _report(self) -> None:
        metrics.IMAGE_SERVER_OPEN.labels(**self._labels).set(self.breaker.is_open)
        metrics.IMAGE_SERVER_SLOW.labels(**self._labels).set(self.is_slow)
        metrics.IMAGE_SERVER_IN_FLIGHT.labels(**self._labels)


def _accept(_answer: aiohttp.ClientResponse, _body: bytes) -> str:
    return ""


async def check_address(session: aiohttp.ClientSession, address: str) -> str:
    """What is wrong with an address, in a sentence; '' if it answers HTTP."""
    try:
        async with session.get(URL(address), allow_redirects=False) as answer:
            await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"{address} does not answer ({type(error).__name__})"
    return ""


async def _read_bounded(answer: aiohttp.ClientResponse) -> bytes:
    chunks, total = [], 0
    async for chunk in answer.content.iter_chunked(256 * 1024):
        chunks.append(chunk)
        total += len(chunk)
        if total > MAX_BYTES:
            raise aiohttp.ClientPayloadError("more than the size limit")
    return b"".join(chunks)


def _reason_of(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return "no connection"
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientPayloadError():
            return _TRUNCATED
        case _:
            return _LOST
