"""Connections to origins, made only to addresses that may be connected to.

What is judged is the very address the socket is then connected to, so nothing that happens between
look-up and connection matters.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from orchestrator.errors import InvalidInput, OriginUnavailable
from orchestrator.origins.network_rules import is_public
from orchestrator.settings import Ingest

Permitted = Callable[[str], bool]
"""Judges a numeric address."""


def permitted_by(settings: Ingest, public: Permitted = is_public) -> Permitted:
    """Every address where `ingest.allow_private_addresses`, else public ones."""
    return (lambda _address: True) if settings.allow_private_addresses else public


def new_socket(info: tuple[Any, ...], permitted: Permitted) -> socket.socket:
    """A socket for (family, kind, protocol, name, address). Raises OriginUnavailable
    (origin_private_address).
    """
    family, kind, protocol, _, address = info
    if not permitted(str(address[0])):
        raise OriginUnavailable(
            "The origin's address is not on the public internet "
            "(ingest.allow_private_addresses permits it).",
            retryable=False,
            code="origin_private_address",
        )
    return socket.socket(family=family, type=kind, proto=protocol)


async def connected_socket(
    host: str, port: int, permitted: Permitted, timeout_s: float
) -> socket.socket:
    """A connection to the first address of `host` that answers within `timeout_s` in all.

    Raises OriginUnavailable: unknown host, refused, origin_timeout, origin_private_address.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            try:
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except (socket.gaierror, UnicodeError) as error:
                raise OriginUnavailable("The origin's host name is not known.") from error
            return await _first(found, permitted)
    except TimeoutError as error:
        raise OriginUnavailable(
            f"The origin could not be reached within {timeout_s:g} s.", code="origin_timeout"
        ) from error


async def _first(found: list[Any], permitted: Permitted) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for info in found:
        one = new_socket(info, permitted)
        one.setblocking(False)
        try:
            await loop.sock_connect(one, info[4])
        except OSError as error:
            one.close()
            failure = error
        except BaseException:
            one.close()
            raise
        else:
            return one
    raise OriginUnavailable("The origin refused the connection.") from failure


def server_and_path(origin: str, scheme: str, port: int) -> tuple[str, int, str]:
    """(host, port, decoded path) of `scheme://host[:port]/path`.

    Raises InvalidInput for anything else, for a user or password in the address, and for a path
    with control characters, which could be commands.
    """
    try:
        parts = urlsplit(origin)
        host, given_port = parts.hostname, parts.port
        path = unquote(parts.path, errors="strict")
    except ValueError as error:
        raise InvalidInput("The origin is not a well-formed address.") from error
    if parts.scheme.lower() != scheme or not host:
        raise InvalidInput(f"The origin should be an address such as {scheme}://host/path.")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("An origin's address may not hold a user name or password.")
    if any(ord(character) < 32 or character == "\x7f" for character in path) or len(path) < 2:
        raise InvalidInput("The path of the origin is empty or has control characters.")
    return host, given_port or port, path
