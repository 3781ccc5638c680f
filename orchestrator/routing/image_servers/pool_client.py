"""The requests of one process to the nodes of one pool: on which node, for how long, and what
happens when one fails.

A request that fails on one node is tried on another one, once. That is safe: nothing has been sent
to the client by then. Every wait is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time

import aiohttp

from orchestrator import metrics
from orchestrator.errors import ImageServerUnavailable
from orchestrator.routing.image_servers.node import Judge, Node, NodeFailed, check_address
from orchestrator.routing.image_servers.node_queue import NodeQueue
from orchestrator.settings import ImageServerPool

log = logging.getLogger(__name__)
IDLE_S = 15
"""Connections without a request are closed after this time. Cantaloupe closes them after 30 s, and
a request may be on its way then.
"""
_CANARY_BYTES = 64 * 1024
"""An answer of up to this size makes a canary: about a tile."""
_AWAY = "The image server does not answer with this image. Try again shortly."
_PROBE_AGAIN_S = 1.0
"""Interval of the canary on a node that does not answer."""


class PoolClient:
    """Sends the requests of one pool."""

    def __init__(self, pool: str, settings: ImageServerPool) -> None:
        self._settings = settings
        self._queue = NodeQueue(pool, settings)
        self._requests: set[asyncio.Task[bytes]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, asset: str, target: str, judge: Judge) -> bytes:
        """The answer to `target` of one node, or of another one if the first fails. Requests for
        the same asset prefer the same node.

        Raises Overloaded, ImageServerUnavailable.
        """
        settings = self._settings
        ends_at = time.monotonic() + settings.queue_timeout_s + settings.total_timeout_s
        tried: list[Node] = []
        try:
            return await self._ask(asset, target, judge, tried, ends_at)
        except NodeFailed as failure:
            _report(asset, failure)
            if not self._queue.has_other(tried) or time.monotonic() >= ends_at:
                raise ImageServerUnavailable(_AWAY) from failure
        metrics.IMAGE_SERVER_RETRIES.inc()
        try:
            return await self._ask(asset, target, judge, tried, ends_at)
        except NodeFailed as failure:
            _report(asset, failure)
            raise ImageServerUnavailable(_AWAY) from failure

    async def check(self) -> str:
        """A description of the first address that does not answer; '' if all answer."""
        for node in self._queue.nodes:
            if problem := await check_address(self._client(), node.address):
                return problem
        return ""

    async def watch(self) -> None:
        """Ask each node without a recent answer for a small image, without end."""
        async with asyncio.TaskGroup() as group:
            for node in self._queue.nodes:
                group.create_task(self._watch(node))

    async def close(self) -> None:
        """Close the connections."""
        for request in self._requests:
            request.cancel()
        if self._requests:
            await asyncio.wait(self._requests)
        if self._session is not None:
            await self._session.close()

    async def _watch(self, node: Node) -> None:
        interval_s = self._settings.canary_s
        while True:
            is_well = node.state == "answers"
            await asyncio.sleep(interval_s if is_well else min(interval_s, _PROBE_AGAIN_S))
            if not is_well or time.monotonic() - node.answered_at >= interval_s:
                await node.probe(self._client(), interval_s)

    async def _ask(
        self, asset: str, target: str, judge: Judge, tried: list[Node], ends_at: float
    ) -> bytes:
        """The answer of a node that was not tried, which is added to `tried`. Raises NodeFailed."""
        node = await self._queue.take(asset, tried)
        tried.append(node)
        if self._settings.hedge_after_p95 and node.p95_s is not None:
            return await self._ask_two(asset, target, judge, tried, ends_at)
        return await self._get(node, target, judge, ends_at)

    async def _ask_two(
        self, asset: str, target: str, judge: Judge, tried: list[Node], ends_at: float
    ) -> bytes:
        """The answer of the last node of `tried`, or if it takes longer than usual of the first of
        two nodes that answers.
        """
        node = tried[-1]
        requests = {self._start(node, target, judge, ends_at)}
        done, _ = await asyncio.wait(requests, timeout=node.p95_s)
        other = None if done else self._queue.take_free(asset, tried)
        if other is not None:
            metrics.IMAGE_SERVER_HEDGES.inc()
            tried.append(other)
            requests.add(self._start(other, target, judge, ends_at))
        while True:
            done, requests = await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
            answers = [request for request in done if request.exception() is None]
            if answers or not requests:
                return (answers or [*done])[0].result()

    def _start(self, node: Node, target: str, judge: Judge, ends_at: float) -> asyncio.Task[bytes]:
        # A task of the pool: the node goes on with the slower of two requests, so its connection
        # must stay in use until then.
        request = asyncio.create_task(  # ends in close()
            self._get(node, target, judge, ends_at)
        )
        self._requests.add(request)
        request.add_done_callback(self._on_done)
        return request

    def _on_done(self, request: asyncio.Task[bytes]) -> None:
        self._requests.discard(request)
        if not request.cancelled():
            request.exception()  # seen, also if nothing waits for this request

    async def _get(self, node: Node, target: str, judge: Judge, ends_at: float) -> bytes:
        left_s = max(0.001, ends_at - time.monotonic())
        total_s = min(self._settings.total_timeout_s, left_s)
        try:
            body = await node.get(self._client(), target, judge, total_s)
        finally:
            node.release()
        if len(body) <= _CANARY_BYTES:
            node.canary = target, judge
        return body

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # One connection more than requests, for the canary.
                connector=aiohttp.TCPConnector(
                    limit=0,
                    limit_per_host=self._settings.connections + 1,
                    keepalive_timeout=IDLE_S,
                ),
                timeout=aiohttp.ClientTimeout(
                    total=self._settings.total_timeout_s,
                    sock_connect=self._settings.connect_timeout_s,
                    sock_read=self._settings.first_byte_timeout_s,
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _report(asset: str, failure: NodeFailed) -> None:
    metrics.UPSTREAM_REFUSED.labels(reason=failure.reason).inc()
    log.warning(
        "image server response rejected",
        extra={"asset": asset, "node": failure.node, "reason": failure.reason},
    )
