"""Connections to origins, made only to permitted network addresses.

The check is made on the very address that the socket then connects to, so a change of the DNS
between look-up and connection has no effect.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from orchestrator.errors import OriginUnavailable
from orchestrator.origins.network_rules import is_public
from orchestrator.settings import Ingest

AddressRule = Callable[[str], bool]
"""Returns whether sockets may connect to a numeric address."""


def address_rule(settings: Ingest, is_permitted: AddressRule = is_public) -> AddressRule:
    """Return a rule that permits every address if `ingest.allow_private_addresses` is set, else
    `is_permitted`.
    """
    return (lambda _address: True) if settings.allow_private_addresses else is_permitted


def create_socket(info: tuple[Any, ...], is_permitted: AddressRule) -> socket.socket:
    """Return a socket for an entry of `getaddrinfo`: (family, type, protocol, name, address).

    Raises OriginUnavailable (origin_private_address).
    """
    family, kind, protocol, _, address = info
    if not is_permitted(str(address[0])):
        raise OriginUnavailable(
            "The origin's address is not on the public internet. Use a public address "
            "(ingest.allow_private_addresses permits private ones).",
            retryable=False,
            code="origin_private_address",
        )
    return socket.socket(family=family, type=kind, proto=protocol)


async def connect_socket(
    host: str, port: int, is_permitted: AddressRule, timeout_s: float
) -> socket.socket:
    """Return a socket connected to the first address of `host` that accepts. All attempts together
    take at most `timeout_s`.

    Raises OriginUnavailable: unknown host, refused, origin_timeout, origin_private_address.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            try:
                infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except (socket.gaierror, UnicodeError) as error:
                raise OriginUnavailable(
                    "The origin's host name is not known. Check the address."
                ) from error
            return await _connect_first(infos, is_permitted)
    except TimeoutError as error:
        raise OriginUnavailable(
            f"The origin could not be reached within {timeout_s:g} s. Try again later.",
            code="origin_timeout",
        ) from error


async def _connect_first(infos: list[Any], is_permitted: AddressRule) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for info in infos:
        candidate = create_socket(info, is_permitted)
        candidate.setblocking(False)
        try:
            await loop.sock_connect(candidate, info[4])
        except OSError as error:
            candidate.close()
            failure = error
        except BaseException:  # also when cancelled, so that the socket is closed
            candidate.close()
            raise
        else:
            return candidate
    raise OriginUnavailable(
        "The origin refused the connection. Check the address and the port."
    ) from failure
