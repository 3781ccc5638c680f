"""Builds a port: the state its connections share, its middleware, and its socket.

The serve, housekeeping and worker processes all build their ports here. Closing the exit stack
passed to `open_port` drains the port: requests in progress are finished first.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version

from aiohttp.web import Application

from orchestrator import metrics
from orchestrator.cache.hot.tier import HotTier
from orchestrator.settings import Server, Settings
from orchestrator.tracing import Tracing
from orchestrator.web.access_log import AccessLog
from orchestrator.web.hot_entries import HotEntry
from orchestrator.web.listen_socket import open_listen_socket
from orchestrator.web.middleware import PortMiddleware
from orchestrator.web.port_runner import PortRunner
from orchestrator.web.port_state import PortLimits, PortState
from orchestrator.web.public_address import PublicAddressResolver

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Port:
    """A port before it is opened: the state its connections share, and its middleware."""

    state: PortState
    middleware: PortMiddleware
    server: Server


@dataclass(frozen=True, slots=True)
class Address:
    """Where a port listens; `shared`: other processes bind the same port (SO_REUSEPORT)."""

    host: str
    port: int
    shared: bool = False


def public_port(
    settings: Settings,
    hot: HotTier[HotEntry],
    access_log: AccessLog | None,
    tracing: Tracing,
) -> Port:
    """A port for clients. It answers from the hot tier and writes the access log."""
    state = PortState(
        addresses=_resolver(settings.server),
        hot=hot,
        access_log=access_log,
        limits=_limits(settings.server),
        auth_cookie=settings.auth.cookie,
    )
    delivery = settings.delivery
    middleware = PortMiddleware(
        state,
        cache_error=delivery.cache_error,
        cache_secret=delivery.cache_secret,
        tracing=tracing,
    )
    return Port(state, middleware, settings.server)


def private_port(settings: Settings, tracing: Tracing) -> Port:
    """A port for operators and Prometheus. Its responses, errors included, are never cached."""
    metrics.BUILD_INFO.labels(version("orchestrator")).set(1)
    state = PortState(
        addresses=_resolver(settings.server), limits=_limits(settings.server), private=True
    )
    no_store = settings.delivery.cache_secret
    middleware = PortMiddleware(state, cache_error=no_store, cache_secret=no_store, tracing=tracing)
    return Port(state, middleware, settings.server)


async def open_port(
    stack: AsyncExitStack, port: Port, app: Application, address: Address, *, role: str
) -> None:
    """Serve `app` on `address` until `stack` is closed, which drains the port. `role` names the
    process in the log. Raises Conflict when the address is taken.
    """
    server = port.server
    runner = PortRunner(app, port.state, keepalive_s=server.keepalive_s, drain_s=server.drain_s)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    listener = open_listen_socket(address.host, address.port, shared=address.shared)
    number = await runner.listen(listener)
    log.info("listening", extra={"host": address.host, "port": number, "role": role})


def _limits(server: Server) -> PortLimits:
    return PortLimits(server.header_timeout_s, server.max_connections, server.max_requests)


def _resolver(server: Server) -> PublicAddressResolver:
    return PublicAddressResolver(server.trusted_proxies, server.path_templates)
