"""Gives each request to a pool one of its nodes, or lets it wait for one.

A request waits only while every node that it may use is full: no longer than
`image_server.queue_timeout_s`, and behind at most `image_server.queue` others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from orchestrator import metrics
from orchestrator.errors import ImageServerUnavailable, Overloaded
from orchestrator.routing.image_servers.affinity import rank, within_bound
from orchestrator.routing.image_servers.node import Node
from orchestrator.settings import ImageServerPool

_RETRY_AFTER_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """A request that waits."""

    ranked: Sequence[str]
    tried: Collection[Node]
    node: asyncio.Future[Node]


class NodeQueue:
    """The nodes of one pool, and the requests that wait for them."""

    def __init__(self, pool: str, settings: ImageServerPool) -> None:
        self.nodes = [Node(pool, address, settings, self._wake) for address in settings.addresses]
        self._pool = pool
        self._settings = settings
        self._by_address = {node.address: node for node in self.nodes}
        self._waiting: deque[_Turn] = deque()

    async def take(self, asset: str, tried: Collection[Node] = ()) -> Node:
        """A node for a request for this asset, none of those `tried`. The caller releases it.

        Raises Overloaded if none is free in time, ImageServerUnavailable if every other node is
        away.
        """
        ranked = rank(asset, list(self._by_address))
        node = None if self._waiting else self._choose(ranked, tried)
        if node is None:
            return await self._wait(ranked, tried)
        node.take()
        return node

    def take_free(self, asset: str, tried: Collection[Node]) -> Node | None:
        """As `take`, but without waiting; None if no node is free."""
        if self._waiting or not self.has_other(tried):
            return None
        node = self._choose(rank(asset, list(self._by_address)), tried)
        if node is not None:
            node.take()
        return node

    def has_other(self, tried: Collection[Node]) -> bool:
        """True if a node that was not tried may be asked."""
        return any(node.may_be_asked for node in self.nodes if node not in tried)

    async def _wait(self, ranked: Sequence[str], tried: Collection[Node]) -> Node:
        """The node that `_wake` has taken for this request."""
        if len(self._waiting) >= self._settings.queue:
            raise self._overloaded()
        turn = _Turn(ranked, tried, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._settings.queue_timeout_s):
                return await turn.node
        except BaseException as error:  # whatever ends the wait; raised again
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.node.cancelled() and turn.node.exception() is None:
                turn.node.result().release()  # it came when the caller had left
            if isinstance(error, TimeoutError):
                raise self._overloaded() from error
            raise

    def _choose(self, ranked: Sequence[str], tried: Collection[Node]) -> Node | None:
        """The node that a request should use now; None if all that it may use are full."""
        nodes = [self._by_address[address] for address in ranked]
        nodes = [node for node in nodes if node not in tried and node.may_be_asked]
        if not nodes:
            raise ImageServerUnavailable("The image server does not answer.")
        fast = [node for node in nodes if not node.is_slow] or nodes
        loads = {node.address: node.in_flight for node in fast}
        free = within_bound([*loads], loads, self._settings.connections)
        return self._by_address[free[0]] if free else None

    def _wake(self) -> None:
        """Give nodes with room to the requests that wait, in their order."""
        for turn in list(self._waiting):
            if turn.node.done():
                continue
            try:
                node = self._choose(turn.ranked, turn.tried)
            except ImageServerUnavailable as error:
                turn.node.set_exception(error)
            else:
                if node is not None:
                    node.take()
                    turn.node.set_result(node)
                elif turn.tried:  # others may use the node that this one may not
                    continue
                else:
                    return
            self._waiting.remove(turn)

    def _overloaded(self) -> Overloaded:
        metrics.OVERLOADS.labels(pool=self._pool).inc()
        return Overloaded("The image servers are busy. Try again shortly.", _RETRY_AFTER_S)
