"""Which restricted assets a request may see: the rights that its signed tokens carry.

A token is a JWT (RFC 7519) signed with HS256. Rights decide only the access class
(`plan.access_class`); products and cache keys depend on that class, never on the token.

Three kinds differ by their claim `aud`, so that none can be used as another (ADR 26): a token
without it is a bearer token or the cookie `auth.cookie`; a `session` is a cookie of a signed-in
user; a `viewer` token shows documents, and no images.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jwt

from orchestrator.errors import InvalidInput
from orchestrator.model import Asset

ALGORITHM = "HS256"
ANY_ROLE = "*"
MAX_SESSIONS = 16
"""Sessions of one request that are read; each costs the check of a signature."""

Purpose = Literal["", "session", "viewer", "sign-in"]
"""The claim `aud` of a token; "" if it has none."""


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of one request; `NO_RIGHTS` for an anonymous one."""

    roles: frozenset[str] = frozenset()
    customer: int | None = None
    """Limits the roles to the assets of one customer; None for all customers."""
    others: tuple[Rights, ...] = ()
    """Further rights, of other tokens of the same request."""

    def cover(self, asset: Asset) -> bool:
        """True if the rights include one of the asset's roles. An asset that is restricted without
        roles is open to every valid token.
        """
        return self._cover(asset) or any(each.cover(asset) for each in self.others)

    def _cover(self, asset: Asset) -> bool:
        if not self.roles or self.customer not in (None, asset.id.customer):
            return False
        return not asset.roles or ANY_ROLE in self.roles or bool(self.roles & set(asset.roles))


NO_RIGHTS = Rights()


@dataclass(frozen=True, slots=True)
class Session:
    """What the cookie of a signed-in user carries: roles for the assets of one customer, given by
    one service.
    """

    service: str
    """Name of the service; "" for the cookie of `auth.cookie`, which another program set."""
    customer: int | None
    roles: frozenset[str]
    expires: int
    """Unix time."""
    origins: tuple[str, ...] = ()
    """Origins of the viewers for which the user signed in."""
    user: str = ""


class SignedTokens:
    """Creates and checks signed tokens."""

    def __init__(self, secret: str, cookie: str) -> None:
        """`cookie` is the name of the cookie that may carry a token. The names of session cookies
        begin with it.
        """
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
        expires = int(time.time()) + int(expires_s)
        return self.sign("", {"roles": roles, **_customer_claim(customer)}, expires)

    def rights(
        self, authorization: str, cookies: Mapping[str, str], *, documents: bool = False
    ) -> Rights:
        """The rights of the bearer token, or else of the cookies. `documents`: the request is for a
        document, which a viewer's token shows, too.

        `NO_RIGHTS` if there is no token, or if it has expired or has another signature; never
        raises for an invalid token.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer":
            claims = self.verify(token.strip(), "", "viewer")
            if claims.get("aud") != "viewer":
                return _rights_of(claims)
            if documents:
                return _rights_of(claims)
        found = [Rights(each.roles, each.customer) for each in self.sessions(cookies)]
        if len(found) > 1:
            return Rights(others=tuple(found))
        return found[0] if found else NO_RIGHTS

    def sessions(self, cookies: Mapping[str, str]) -> list[Session]:
        """The valid sessions among these cookies."""
        return list(self._read_sessions(cookies))

    def session_cookie(self, customer: int, service: str) -> str:
        """The name of the cookie of a session. Each has its own: a user may sign in to several
        services, and sign out of one.
        """
        return f"{self._cookie}-{customer}-{service}"

    def has_session_cookie(self, cookies: Mapping[str, str]) -> bool:
        """True if there is a cookie of a session, valid or not."""
        return any(name.startswith(self._cookie) for name in cookies)

    def create_session(self, session: Session) -> str:
        """The value of the cookie of this session."""
        claims = {
            "service": session.service,
            "roles": sorted(session.roles),
            "origins": list(session.origins),
            "user": session.user,
            **_customer_claim(session.customer),
        }
        return self.sign("session", claims, session.expires)

    def create_viewer_token(self, roles: frozenset[str], customer: int, expires: int) -> str:
        """A token that shows a viewer the documents of one customer's assets with these roles, and
        no images. `expires` is a Unix time.
        """
        return self.sign("viewer", {"roles": sorted(roles), "customer": customer}, expires)

    def sign(self, purpose: Purpose, claims: Mapping[str, Any], expires: int) -> str:
        """A token for one purpose with these claims, valid until the Unix time `expires`."""
        audience = {"aud": purpose} if purpose else {}
        times = {"iat": int(time.time()), "exp": expires}
        return jwt.encode({**claims, **audience, **times}, self._secret, algorithm=ALGORITHM)

    def verify(self, token: str, *purposes: Purpose) -> dict[str, Any]:
        """The claims of a valid token for one of these purposes; none for any other token."""
        if not token:
            return {}
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                # The clock of the host that created the token may be ahead of ours: only `exp`
                # counts, so `iat` is not checked. `aud` is compared below.
                options={"require": ["exp"], "verify_iat": False, "verify_aud": False},
            )
        except jwt.InvalidTokenError:
            return {}
        return claims if claims.get("aud", "") in purposes else {}

    def _read_sessions(self, cookies: Mapping[str, str]) -> Iterator[Session]:
        names = [name for name in cookies if name.startswith(self._cookie)]
        for name in names[:MAX_SESSIONS]:
            purpose: Purpose = "" if name == self._cookie else "session"
            claims = self.verify(cookies[name], purpose)
            rights = _rights_of(claims)
            service = str(claims.get("service", ""))
            if not rights.roles or (
                purpose and name != self.session_cookie(rights.customer or 0, service)
            ):
                continue
            yield Session(
                service if purpose else "",
                rights.customer,
                rights.roles,
                int(claims["exp"]),
                tuple(map(str, claims.get("origins", ()))) if purpose else (),
                str(claims.get("user", "")),
            )


def _customer_claim(customer: int | None) -> dict[str, int]:
    return {} if customer is None else {"customer": customer}


def _rights_of(claims: Mapping[str, Any]) -> Rights:
    roles, customer = claims.get("roles"), claims.get("customer")
    if not isinstance(roles, list):
        return NO_RIGHTS
    return Rights(
        frozenset(str(role) for role in roles), customer if isinstance(customer, int) else None
    )
