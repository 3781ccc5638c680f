"""How often a client may do something: budgets of the clients of one process, in bounded memory."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

from cachetools import LRUCache

from orchestrator.errors import TooManyRequests

MAX_CLIENTS = 50_000
"""Clients whose budget is remembered; the one that was quiet the longest is forgotten."""
_PERIOD_S = 60.0
_IPV6_NETWORK_BITS = 64
"""A client with IPv6 usually has a network of this size to itself."""


class ClientBudgets:
    """Budgets of `rate` uses per minute, which fill evenly up to one minute's."""

    def __init__(self, rate: int, refusal: str, now: Callable[[], float] = time.monotonic) -> None:
        """`refusal` is the public text for a client without budget."""
        self._rate = rate
        self._refusal = refusal
        self._now = now
        self._budgets: LRUCache[str, tuple[float, float]] = LRUCache(MAX_CLIENTS)

    def spend(self, client: str) -> None:
        """Take one use from the budget of a client. Raises TooManyRequests."""
        now = self._now()
        left = self._left(client, now)
        if left < 1:
            self._budgets[client] = (left, now)
            raise TooManyRequests(self._refusal, (1 - left) * _PERIOD_S / self._rate)
        self._budgets[client] = (left - 1, now)

    def restore(self, client: str) -> None:
        """Give one use back."""
        now = self._now()
        self._budgets[client] = (min(self._rate, self._left(client, now) + 1), now)

    def _left(self, client: str, now: float) -> float:
        left, since = self._budgets.get(client, (float(self._rate), now))
        return min(self._rate, left + (now - since) * self._rate / _PERIOD_S)


def network_of(address: str) -> str:
    """The client of an IP address: the address, or its network with IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _IPV6_NETWORK_BITS), strict=False))
