"""Whose key a request carries, and what it reaches: its own customer, or with an admin key all.

`Authorization: Bearer ID.SECRET` and `Basic` (the key's id as user, its secret as password). A
missing, malformed, wrong or revoked one is 401 alike; nobody is told which it was.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from orchestrator.catalog.values import ApiKey
from orchestrator.errors import Forbidden, KeyRequired

_NEEDED = (
    "This needs an API key: send Authorization: Bearer ID.SECRET, or Basic with both;"
    " see `orchestrator keys create`."
)
_WRONG = "This API key is not one that is known, or was revoked."
_MAX_CHARS = 1000


class KeyVerifier(Protocol):
    """Where keys are known; filled by the catalogue."""

    async def verify(self, key: str, secret: str) -> ApiKey | None:
        """The key with this id and secret, or None. Raises CatalogUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    customer: int
    admin: bool

    def reaches(self, customer: int) -> bool:
        """True if this customer's resources are within reach."""
        return self.admin or customer == self.customer

    def check(self, customer: int) -> None:
        """Raise Forbidden unless this customer's resources are within reach."""
        if not self.reaches(customer):
            raise Forbidden(f"This key is of customer {self.customer}; it reaches no other.")

    def check_admin(self) -> None:
        """Raise Forbidden unless the key is an admin key."""
        if not self.admin:
            raise Forbidden("This needs an admin key; see `orchestrator keys create --admin`.")

    @property
    def scope(self) -> int | None:
        """The only customer whose things are shown; None for all."""
        return None if self.admin else self.customer


def check_own_pages_only(request: web.Request) -> None:
    """Raise Forbidden for a change that a page of another site has a browser make with the
    password it remembers (Basic); a bearer token is nothing a browser adds by itself.
    """
    origin = request.headers.get("Origin", "")
    is_basic = request.headers.get("Authorization", "")[:6].lower() == "basic "
    if request.method in ("GET", "HEAD") or not origin or not is_basic:
        return
    if origin.partition("://")[2].lower() != request.headers.get("Host", "").lower():
        raise Forbidden("Pages of other sites change nothing here; send the key as Bearer.")


async def caller_of(request: web.Request, keys: KeyVerifier) -> Caller:
    """Whose key the request carries. Raises KeyRequired."""
    fields = request.headers.getall("Authorization", [])
    pair = _pair(fields[0]) if len(fields) == 1 else None
    if pair is None:
        raise KeyRequired(_NEEDED)
    found = await keys.verify(*pair)
    if found is None:
        raise KeyRequired(_WRONG)
    return Caller(found.customer, found.admin)


def _pair(field: str) -> tuple[str, str] | None:
    """(id, secret) as the header has them; None when it has not."""
    scheme, _, word = field.strip().partition(" ")
    word = word.strip()
    if len(word) > _MAX_CHARS:
        return None
    match scheme.lower():
        case "bearer":
            key, found, secret = word.replace(":", ".", 1).partition(".")
        case "basic":
            key, found, secret = _decoded(word).partition(":")
        case _:
            return None
    return (key, secret) if found and key and secret else None


def _decoded(word: str) -> str:
    try:
        return base64.b64decode(word, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
