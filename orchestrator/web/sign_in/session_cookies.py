"""The cookies of signed-in users.

On https a cookie is sent with requests of every site (`SameSite=None`, which needs `Secure`), so
that viewers of other sites can show images. Browsers refuse that form on http, where the cookie is
sent from the same site: a viewer on another port of the same host is the same site.
"""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from aiohttp import web

from orchestrator.routing.access_tokens import Session, SignedTokens

STATE_S = 600
"""Seconds in which a user must return from the identity provider."""


class SessionCookies:
    """Sets and deletes the cookies of one installation."""

    def __init__(self, tokens: SignedTokens, domain: str) -> None:
        self._tokens = tokens
        self._domain = domain or None

    def set_session(self, response: web.Response, session: Session, base: str) -> None:
        """Set the cookie of a session until it expires. `base` is our public address."""
        self._set(
            response,
            self._tokens.session_cookie(session.customer or 0, session.service),
            self._tokens.create_session(session),
            max_age=max(0, session.expires - int(time.time())),
            base=base,
        )

    def delete_session(
        self, response: web.Response, customer: int, service: str, base: str
    ) -> None:
        """Delete the cookie of a session."""
        name = self._tokens.session_cookie(customer, service)
        self._set(response, name, "", max_age=0, base=base)

    def set_state(self, response: web.Response, state: str, value: str, callback: str) -> None:
        """Set the cookie that keeps a sign-in until the user returns to the address `callback`. It
        is sent with that navigation (`SameSite=Lax`), and to no other address. An empty `value`
        deletes it.
        """
        address = urlsplit(callback)
        response.set_cookie(
            state_cookie(state),
            value,
            max_age=STATE_S if value else 0,
            path=address.path,
            secure=address.scheme == "https",
            httponly=True,
            samesite="Lax",
        )

    def _set(
        self, response: web.Response, name: str, value: str, *, max_age: int, base: str
    ) -> None:
        is_secure = base.startswith("https://")
        response.set_cookie(
            name,
            value,
            max_age=max_age,
            path="/",
            domain=self._domain,
            secure=is_secure,
            httponly=True,
            samesite="None" if is_secure else "Lax",
        )


def state_cookie(state: str) -> str:
    """The name of the cookie of one sign-in with the provider; several may run at once."""
    return f"sign-in-{state[:16]}"
