"""Which restricted assets a request may see: the rights that its signed token carries.

A token is a JWT (RFC 7519) signed with HS256, sent as a bearer token or as a cookie. Rights decide
only the access class (`plan.access_class`); products and cache keys depend on that class, never on
the token.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from orchestrator.errors import InvalidInput
from orchestrator.model import Asset

ALGORITHM = "HS256"
ANY_ROLE = "*"


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of one request; `NO_RIGHTS` for an anonymous one."""

    roles: frozenset[str] = frozenset()
    customer: int | None = None
    """Limits the roles to the assets of one customer; None for all customers."""

    def cover(self, asset: Asset) -> bool:
        """True if the rights include one of the asset's roles. An asset that is restricted without
        roles is open to every valid token.
        """
        if not self.roles or self.customer not in (None, asset.id.customer):
            return False
        return not asset.roles or ANY_ROLE in self.roles or bool(self.roles & set(asset.roles))


NO_RIGHTS = Rights()


class SignedTokens:
    """Creates and checks signed tokens: roles, an optional customer and an expiry time."""

    def __init__(self, secret: str, cookie: str) -> None:
        """`cookie` is the name of the cookie that may carry a token."""
        self._secret = secret
        self._cookie = cookie

    def create(self, roles: list[str], expires_s: float, customer: int | None = None) -> str:
        """A token with these roles that is valid for `expires_s` seconds. Raises InvalidInput if
        there is no role or `expires_s` is not above zero.
        """
        if not roles or any(not role.strip() for role in roles):
            raise InvalidInput("A token needs at least one role: --roles reader,staff")
        if expires_s <= 0:
            raise InvalidInput("A token needs a time to live above zero: --expires 8h")
        now = int(time.time())
        claims: dict[str, Any] = {"roles": roles, "iat": now, "exp": now + int(expires_s)}
        if customer is not None:
            claims["customer"] = customer
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM)

    def rights(self, authorization: str, cookies: Mapping[str, str]) -> Rights:
        """The rights of the bearer token, or else of the cookie. `NO_RIGHTS` if there is no token,
        or if it has expired or has another signature; never raises for an invalid token.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            token = cookies.get(self._cookie, "")
        return self._decode(token.strip()) if token else NO_RIGHTS

    def _decode(self, token: str) -> Rights:
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                # The clock of the host that created the token may be ahead of ours: only `exp`
                # counts, so `iat` is not checked.
                options={"require": ["exp"], "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            return NO_RIGHTS
        roles, customer = claims.get("roles"), claims.get("customer")
        if not isinstance(roles, list):
            return NO_RIGHTS
        return Rights(
            frozenset(str(role) for role in roles), customer if isinstance(customer, int) else None
        )
