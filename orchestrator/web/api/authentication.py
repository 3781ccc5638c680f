"""Authentication of API requests. A customer's key gives access to the resources of that customer;
an admin key gives access to all.

A client sends `Authorization: Bearer ID.SECRET`, or `Basic` with the key's id as user and its
secret as password. A missing, malformed, wrong or revoked key is answered with the same 401, so
that a client cannot find out which ids exist.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from orchestrator.catalog.values import ApiKey
from orchestrator.errors import Forbidden, KeyRequired

_KEY_MISSING = (
    "This request needs an API key. Send Authorization: Bearer ID.SECRET, or Basic with the id"
    " as user and the secret as password. `orchestrator keys create` makes a key."
)
_KEY_INVALID = "This API key is unknown or revoked. Create one with `orchestrator keys create`."
_MAX_CHARS = 1000


class KeyVerifier(Protocol):
    """Checks keys; the catalogue implements it."""

    async def verify(self, key: str, secret: str) -> ApiKey | None:
        """Return the key with this id and secret, or None. Raises CatalogUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of the key that a request carries."""

    customer: int
    admin: bool
    key: str = ""
    """The id of the key."""

    def may_access(self, customer: int) -> bool:
        """Return True if the key gives access to this customer's resources."""
        return self.admin or customer == self.customer

    def require_access(self, customer: int) -> None:
        """Raise Forbidden unless the key gives access to this customer's resources."""
        if not self.may_access(customer):
            raise Forbidden(
                f"This key belongs to customer {self.customer}."
                f" Use a key of customer {customer} or an admin key."
            )

    def require_admin(self) -> None:
        """Raise Forbidden unless the key is an admin key."""
        if not self.admin:
            raise Forbidden(
                "This request needs an admin key. `orchestrator keys create --admin` makes one."
            )

    @property
    def only_customer(self) -> int | None:
        """The one customer whose resources may be listed; None: those of all customers."""
        return None if self.admin else self.customer


def refuse_cross_site_change(request: web.Request) -> None:
    """Raise Forbidden for a change that a page of another site makes the browser send.

    A browser adds a remembered Basic password to such a request by itself; it never adds a bearer
    token.
    """
    origin = request.headers.get("Origin", "")
    is_basic = request.headers.get("Authorization", "")[:6].lower() == "basic "
    if request.method in ("GET", "HEAD") or not origin or not is_basic:
        return
    if origin.partition("://")[2].lower() != request.headers.get("Host", "").lower():
        raise Forbidden("A page of another site sent this change. Send the key as a Bearer token.")


def has_secret(request: web.Request, secret: str) -> bool:
    """True if the request carries this secret as a bearer token or as the password of Basic; False
    for an empty secret.
    """
    fields = request.headers.getall("Authorization", [])
    if not secret or len(fields) != 1:
        return False
    scheme, _, value = fields[0].strip().partition(" ")
    if scheme.lower() == "basic":
        value = _decode_base64(value.strip()).partition(":")[2]
    return hmac.compare_digest(value.strip().encode(), secret.encode())


async def authenticate(request: web.Request, keys: KeyVerifier) -> Caller:
    """Return the holder of the request's key. Raises KeyRequired, CatalogUnavailable."""
    fields = request.headers.getall("Authorization", [])
    credentials = _read_credentials(fields[0]) if len(fields) == 1 else None
    if credentials is None:
        raise KeyRequired(_KEY_MISSING)
    key = await keys.verify(*credentials)
    if key is None:
        raise KeyRequired(_KEY_INVALID)
    return Caller(key.customer, key.admin, key.id)


def _read_credentials(field: str) -> tuple[str, str] | None:
    """Return (id, secret) of an Authorization header; None if it is malformed."""
    scheme, _, value = field.strip().partition(" ")
    value = value.strip()
    if len(value) > _MAX_CHARS:
        return None
    match scheme.lower():
        case "bearer":
            key, separator, secret = value.replace(":", ".", 1).partition(".")
        case "basic":
            key, separator, secret = _decode_base64(value).partition(":")
        case _:
            return None
    return (key, secret) if separator and key and secret else None


def _decode_base64(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
