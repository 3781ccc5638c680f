"""Runs an application on a port: with our protocol, on a shared socket, and with a shutdown that
cuts off no response.

docs/adr/0007-socket-sharing.md says why each process binds its own socket with SO_REUSEPORT.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

from aiohttp import web
from aiohttp.web_server import Server

from orchestrator.web.hot_lane import HotLaneProtocol
from orchestrator.web.port_state import Connection, PortState

BACKLOG = 1024
POLL_S = 0.02
LINGER_S = 0.2
"""How long a draining port still answers on idle connections, with Connection: close."""
AT_ONCE_S = 0.01  # aiohttp takes 0 for no limit
CANCEL_S = 1.0


class PortServer(Server):
    """aiohttp's Server that creates our protocol."""

    def __init__(self, server: Server, port_state: PortState) -> None:
        super().__init__(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            loop=server._loop,
            **server._kwargs,
        )
        self._port_state = port_state
        port_state.connections = self._list_connections

    def __call__(self) -> HotLaneProtocol:
        """Return the protocol of a new connection."""
        return HotLaneProtocol(self, self._port_state, loop=self._loop, **self._kwargs)

    def _list_connections(self) -> list[HotLaneProtocol]:
        return [protocol for protocol in self.connections if isinstance(protocol, HotLaneProtocol)]


class PortRunner(web.AppRunner):
    """One application on one port: call `setup`, then `listen`; `cleanup` drains and closes it."""

    __slots__ = ("_drain_s", "_port_state")

    def __init__(
        self, app: web.Application, port_state: PortState, *, keepalive_s: float, drain_s: float
    ) -> None:
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=keepalive_s,
            shutdown_timeout=drain_s,
        )
        self._port_state = port_state
        self._drain_s = drain_s

    async def listen(self, listener: socket.socket) -> int:
        """Serve on a bound socket. Returns the port number."""
        await web.SockSite(self, listener, backlog=BACKLOG).start()
        self._port_state.start()
        return int(listener.getsockname()[1])

    async def cleanup(self) -> None:
        """Stop listening, answer the requests in progress for at most `drain_s` seconds, then
        cancel the others and close every connection.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_s
        for site in list(self.sites):
            await site.stop()
        self._port_state.drain()
        if self.server is not None and self.server.connections:
            await asyncio.sleep(min(LINGER_S, self._drain_s))
        connections = list(self._port_state.connections())  # aiohttp forgets them, sent or not
        try:
            # aiohttp waits twice for its time-out before it cancels a request.
            async with asyncio.timeout_at(deadline):
                await super().cleanup()
        except TimeoutError:
            self._shutdown_timeout = AT_ONCE_S
            await super().cleanup()
            await self._wait_for_cancelled()
        await _close_when_sent(connections, max(deadline, loop.time() + LINGER_S))
        self._port_state.stop()

    async def _wait_for_cancelled(self) -> None:
        """Let cancelled requests release what they use, for a bounded time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CANCEL_S
        # Requests have no event for their end.
        while self._port_state.in_progress and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)

    async def _make_server(self) -> Server:
        return PortServer(await super()._make_server(), self._port_state)


async def _close_when_sent(connections: Iterable[Connection], deadline: float) -> None:
    """Wait until all responses are sent, at most until `deadline` (time of the loop), then end the
    connections: each must have released its socket before the loop ends.
    """
    loop = asyncio.get_running_loop()
    # No transport reports that its buffer is empty.
    while any(each.unsent_bytes() for each in connections) and loop.time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)
    for each in connections:
        each.abort()
    await asyncio.sleep(0)
