"""Who may upload, and how often: signed tokens that expire, and a rate for each client address.

A token is a JWT (RFC 7519) signed with HS256. The rates are those of one process, in bounded
memory.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence

import jwt
from cachetools import LRUCache

from orchestrator.errors import Forbidden, InvalidInput, NotAuthorised, TooManyRequests
from orchestrator.settings import Uploads

ALGORITHM = "HS256"
AUDIENCE = "upload"
"""The claim `aud`: a token of another use of the same secret permits no upload."""
MAX_ADDRESSES = 50_000
"""Addresses whose rate is remembered; the one that was quiet the longest is forgotten."""
_PERIOD_S = 60.0
_IPV6_NETWORK_BITS = 64
"""A client with IPv6 usually has a network of this size to itself."""


class UploadPermits:
    """The rules of one process."""

    def __init__(self, settings: Uploads, now: Callable[[], float] = time.monotonic) -> None:
        self._secrets = [secret.get_secret_value() for secret in settings.token_secrets]
        self._rate = settings.rate_limit
        self._now = now
        self._budgets: LRUCache[str, tuple[float, float]] = LRUCache(MAX_ADDRESSES)

    def check(self, authorization: str, address: str) -> None:
        """Permit one upload. `authorization` is the header; `address` is the client's.

        Raises NotAuthorised without a token if one is needed, Forbidden for one that is not valid
        or has expired, TooManyRequests.
        """
        if self._secrets:
            _check_token(authorization, self._secrets)
        if self._rate:
            self._spend(_network_of(address))

    def _spend(self, client: str) -> None:
        """Take one upload from the budget of a client, which fills evenly up to one minute's."""
        now = self._now()
        left, since = self._budgets.get(client, (float(self._rate), now))
        left = min(self._rate, left + (now - since) * self._rate / _PERIOD_S)
        if left < 1:
            self._budgets[client] = (left, now)
            raise TooManyRequests(
                f"This address may begin {self._rate} uploads in a minute. Try again later.",
                (1 - left) * _PERIOD_S / self._rate,
            )
        self._budgets[client] = (left - 1, now)


def create_token(secrets: Sequence[str], expires_s: float) -> str:
    """A token that permits uploads for `expires_s` seconds, signed with the last secret. Raises
    InvalidInput if there is no secret.
    """
    if not secrets:
        raise InvalidInput("There is no secret for upload tokens. Set uploads.token_secrets.")
    now = int(time.time())
    claims = {"aud": AUDIENCE, "iat": now, "exp": now + int(expires_s)}
    return jwt.encode(claims, secrets[-1], algorithm=ALGORITHM)


def _check_token(authorization: str, secrets: Sequence[str]) -> None:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthorised("Uploads need a token. Send it as Authorization: Bearer.")
    if not any(_is_valid(token.strip(), secret) for secret in secrets):
        raise Forbidden("The upload token is not valid, or has expired. Request a new one.")


def _is_valid(token: str, secret: str) -> bool:
    try:
        jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            # The clock of the host that created the token may be ahead of ours.
            options={"require": ["exp", "aud"], "verify_iat": False},
        )
    except jwt.InvalidTokenError:
        return False
    return True


def _network_of(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _IPV6_NETWORK_BITS), strict=False))
