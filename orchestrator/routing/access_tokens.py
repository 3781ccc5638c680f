"""Who may see what: rights carried by a request, checked through a small protocol.

The first form is a signed token (bearer or cookie). The IIIF Authorization Flow will be another
form of the same protocol; keys and answers depend only on the access class that
`plan.access_class` derives, so they stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from orchestrator.errors import InvalidInput
from orchestrator.model import Asset

ALGORITHM = "HS256"
ANY_ROLE = "*"


@dataclass(frozen=True, slots=True)
class Rights:
    """What a request's credential gives; `NO_RIGHTS` for an anonymous one."""

    roles: frozenset[str] = frozenset()
    customer: int | None = None
    """Limits the roles to one customer's assets; None for all."""

    def cover(self, asset: Asset) -> bool:
        """True if any of the asset's roles is held; an asset restricted without roles opens to
        every valid credential.
        """
        if not self.roles or self.customer not in (None, asset.id.customer):
            return False
        return not asset.roles or ANY_ROLE in self.roles or bool(self.roles & set(asset.roles))


NO_RIGHTS = Rights()


class RightsChecker(Protocol):
    """Reads the rights a request carries. Never raises for a bad credential: it gives no rights."""

    def rights(self, authorization: str, cookies: Mapping[str, str]) -> Rights:
        """The rights in an Authorization header or a cookie."""
        ...


class SignedTokens:
    """Makes and checks our signed tokens (JWT, HS256): roles, optional customer, expiry."""

    def __init__(self, secret: str, cookie: str, now: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._cookie = cookie
        self._now = now

    def create(self, roles: list[str], expires_s: float, customer: int | None = None) -> str:
        """A token with these roles for `expires_s` seconds. Raises InvalidInput without roles or
        time.
        """
        if not roles or any(not role.strip() for role in roles):
            raise InvalidInput("A token needs at least one role: --roles reader,staff")
        if expires_s <= 0:
            raise InvalidInput("A token needs a time to live above zero: --expires 8h")
        now = int(self._now())
        claims: dict[str, Any] = {"roles": roles, "iat": now, "exp": now + int(expires_s)}
        if customer is not None:
            claims["customer"] = customer
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM)

    def rights(self, authorization: str, cookies: Mapping[str, str]) -> Rights:
        """The rights of the bearer token, else of the cookie; none when absent, expired or not
        ours.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            token = cookies.get(self._cookie, "")
        return self._read(token.strip()) if token else NO_RIGHTS

    def _read(self, token: str) -> Rights:
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                options={"require": ["exp"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            return NO_RIGHTS
        roles, expires, customer = claims.get("roles"), claims["exp"], claims.get("customer")
        if not isinstance(roles, list) or not isinstance(expires, int) or expires <= self._now():
            return NO_RIGHTS
        return Rights(
            frozenset(str(role) for role in roles), customer if isinstance(customer, int) else None
        )
