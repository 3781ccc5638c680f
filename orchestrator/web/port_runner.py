"""Runs an application on a port: with our protocol, on a shared socket, and with a shutdown that
cuts off no response.

docs/adr/0007-socket-sharing.md says why each process binds its own socket with SO_REUSEPORT.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterable

from aiohttp import web
from aiohttp.web_server import Server

from orchestrator.web.hot_lane import HotLaneProtocol
from orchestrator.web.port_state import Connection, PortState

BACKLOG = 1024
POLL_S = 0.02
LINGER_S = 0.2
"""How long a draining port still answers on idle connections, with Connection: close."""


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
        """Stop listening, answer the requests in progress for at most `drain_s` seconds, then close
        every connection.
        """
        deadline = time.monotonic() + self._drain_s
        for site in list(self.sites):
            await site.stop()
        self._port_state.drain()
        if self.server is not None and self.server.connections:
            await asyncio.sleep(LINGER_S)
        connections = list(self._port_state.connections())  # aiohttp forgets them, sent or not
        await super().cleanup()
        await _close_when_sent(connections, max(deadline, time.monotonic() + LINGER_S))
        self._port_state.stop()

    async def _make_server(self) -> Server:
        return PortServer(await super()._make_server(), self._port_state)


async def _close_when_sent(connections: Iterable[Connection], deadline: float) -> None:
    """Wait until all responses are sent, at most until `deadline` (monotonic time), then end the
    connections: each must have released its socket before the loop ends.
    """
    # No transport reports that its buffer is empty.
    while any(each.unsent_bytes() for each in connections) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)
    for each in connections:
        each.abort()
    await asyncio.sleep(0)
