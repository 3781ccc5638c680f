"""The requests of one process to the nodes of one pool: on which node, for how long, and what
happens when one fails.

A request that fails on one node is tried on another one, once; on the same one if it is the only
one and its connection was lost or its answer was cut. That is safe: nothing has been sent to the
client by then. Every wait is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from orchestrator import metrics
from orchestrator.errors import ImageServerUnavailable
from orchestrator.model import Asset, AssetId
from orchestrator.routing.image_servers.node import Judge, Node, NodeFailed, check_address
from orchestrator.routing.image_servers.node_purge import PoolPurge
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


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """What is requested of a node, and about what."""

    asset: Asset
    name: str
    """The source as the nodes name it, not encoded."""
    target: str
    judge: Judge


class PoolClient:
    """Sends the requests of one pool."""

    def __init__(self, pool: str, settings: ImageServerPool, *, idle_s: float = IDLE_S) -> None:
        """A connection that is idle for `idle_s` seconds is closed."""
        self._idle_s = idle_s
        self._settings = settings
        self._purge = _open_purge(settings)
        self._queue = NodeQueue(pool, settings)
        self._canary_assets: dict[str, AssetId] = {}
        """The asset of each node's canary, by the address of the node."""
        self._requests: set[asyncio.Task[bytes]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, request: PoolRequest) -> bytes:
        """The answer of one node, or of another one if the first fails. Requests for
        the same asset prefer the same node.

        Raises Overloaded, ImageServerUnavailable.
        """
        settings = self._settings
        ends_at = time.monotonic() + settings.queue_timeout_s + settings.total_timeout_s
        tried: list[Node] = []
        try:
            return await self._ask(request, tried, ends_at)
        except NodeFailed as failure:
            _report(request.asset, failure)
            has_other = self._queue.has_other(tried)
            if not (has_other or failure.may_repeat) or time.monotonic() >= ends_at:
                raise ImageServerUnavailable(_AWAY) from failure
            if not has_other:
                tried.clear()
        metrics.IMAGE_SERVER_RETRIES.inc()
        try:
            return await self._ask(request, tried, ends_at)
        except NodeFailed as failure:
            _report(request.asset, failure)
            raise ImageServerUnavailable(_AWAY) from failure

    async def check(self) -> str:
        """A description of the first address that does not answer; '' if all answer."""
        for node in self._queue.nodes:
            if problem := await check_address(self._client(), node.address):
                return problem
        return ""

    @property
    def is_watching(self) -> bool:
        """True if `watch` has work: canaries or purges."""
        return self._settings.canary_s > 0 or self._purge is not None

    def on_change(self, is_changed: Callable[[AssetId], bool]) -> None:
        """Purge what the nodes have in their caches about the assets that have changed."""
        for node in self._queue.nodes:
            asset_id = self._canary_assets.get(node.address)
            if asset_id is not None and is_changed(asset_id):
                node.canary = None  # it would bring an old image into the caches again
        if self._purge is not None:
            self._purge.on_change(is_changed)

    async def watch(self) -> None:
        """Ask each node without a recent answer for a small image, and purge what is due, without
        end.
        """
        async with asyncio.TaskGroup() as group:
            if self._purge is not None:
                group.create_task(self._purge.run(self._client()))
            for node in self._queue.nodes if self._settings.canary_s > 0 else ():
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

    async def _ask(self, request: PoolRequest, tried: list[Node], ends_at: float) -> bytes:
        """The answer of a node that was not tried, which is added to `tried`. Raises NodeFailed."""
        node = await self._queue.take(str(request.asset.id), tried)
        tried.append(node)
        if self._settings.hedge_after_p95 and node.p95_s is not None:
            return await self._ask_two(request, tried, ends_at)
        return await self._get(node, request, ends_at)

    async def _ask_two(self, request: PoolRequest, tried: list[Node], ends_at: float) -> bytes:
        """The answer of the last node of `tried`, or if it takes longer than usual of the first of
        two nodes that answers.
        """
        node = tried[-1]
        requests = {self._start(node, request, ends_at)}
        done, _ = await asyncio.wait(requests, timeout=node.p95_s)
        other = None if done else self._queue.take_free(str(request.asset.id), tried)
        if other is not None:
            metrics.IMAGE_SERVER_HEDGES.inc()
            tried.append(other)
            requests.add(self._start(other, request, ends_at))
        while True:
            done, requests = await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
            answers = [each for each in done if each.exception() is None]
            if answers or not requests:
                return (answers or [*done])[0].result()

    def _start(self, node: Node, request: PoolRequest, ends_at: float) -> asyncio.Task[bytes]:
        # A task of the pool: the node goes on with the slower of two requests, so its connection
        # must stay in use until then.
        task = asyncio.create_task(self._get(node, request, ends_at))  # ends in close()
        self._requests.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, request: asyncio.Task[bytes]) -> None:
        self._requests.discard(request)
        if not request.cancelled():
            request.exception()  # seen, also if nothing waits for this request

    async def _get(self, node: Node, request: PoolRequest, ends_at: float) -> bytes:
        left_s = max(0.001, ends_at - time.monotonic())
        total_s = min(self._settings.total_timeout_s, left_s)
        session = self._client()
        try:
            if self._purge is not None:
                await self._purge.before_use(session, node.address, request.asset, request.name)
            body = await node.get(session, request.target, request.judge, total_s)
        except ImageServerUnavailable as error:
            raise NodeFailed(node.address, "purge") from error
        finally:
            node.release()
        if len(body) <= _CANARY_BYTES:
            node.canary = request.target, request.judge
            self._canary_assets[node.address] = request.asset.id
        return body

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Two connections more than requests, for the canary and for purges.
                connector=aiohttp.TCPConnector(
                    limit=0,
                    limit_per_host=self._settings.connections + 2,
                    keepalive_timeout=self._idle_s,
                ),
                timeout=aiohttp.ClientTimeout(
                    total=self._settings.total_timeout_s,
                    sock_connect=self._settings.connect_timeout_s,
                    sock_read=self._settings.first_byte_timeout_s,
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                # Compressed images gain nothing, and versions are not told to other servers.
                skip_auto_headers=("Accept-Encoding", "User-Agent"),
            )
        return self._session


def _open_purge(settings: ImageServerPool) -> PoolPurge | None:
    secret = settings.purge_secret.get_secret_value()
    if not settings.purge_user or settings.kind != "cantaloupe":
        return None
    return PoolPurge(settings.addresses, settings.purge_user, secret)


def _report(asset: Asset, failure: NodeFailed) -> None:
    metrics.UPSTREAM_REFUSED.labels(reason=failure.reason).inc()
    log.warning(
        "image server response rejected",
        extra={"asset": str(asset.id), "node": failure.node, "reason": failure.reason},
    )
