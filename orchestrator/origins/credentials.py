"""The credentials an origin is opened with: named secrets, parsed from JSON.

A secret is never part of a log line, an error or a `repr`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.errors import InvalidInput
from orchestrator.origins.s3_address import LINK_SHAPE

MASK = "xxx"
"""Shown instead of credentials. A caller who sends it keeps the stored credentials."""
MAX_BYTES = 64 * 1024
_SHAPE = (
    'Credentials must be a JSON object such as {"user": "...", "password": "..."}, '
    f"or a link such as {LINK_SHAPE}."
)
_ALIASES = {
    "username": "user",
    "pass": "password",
    "accesskeyid": "accesskey",
    "awsaccesskeyid": "accesskey",
    "secretaccesskey": "secretkey",
    "awssecretaccesskey": "secretkey",
    "awssessiontoken": "sessiontoken",
    "token": "sessiontoken",
}
"""Other spellings of a name, in lower case without `_` and `-`."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Named secrets; a missing name reads as ""."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def user(self) -> str:
        """The user name."""
        return self.values.get("user", "")

    @property
    def password(self) -> str:
        """The user's password."""
        return self.values.get("password", "")

    def __getitem__(self, name: str) -> str:
        """Return the secret with this name, spelt with underscores."""
        return self.values.get(_plain(name), "")

    def __bool__(self) -> bool:
        """Return False when there are none."""
        return bool(self.values)


def parse_credentials(text: str) -> Credentials:
    """Parse a JSON object of texts. Raises InvalidInput, whose message repeats no secret."""
    if len(text) > MAX_BYTES:
        raise InvalidInput("Credentials must be at most 64 KB.")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput(_SHAPE) from None  # the cause would repeat the secret
    if not isinstance(fields, dict):
        raise InvalidInput(_SHAPE)
    values = {
        _plain(name): str(value)
        for name, value in fields.items()
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip()
    }
    return Credentials(values)


def _plain(name: str) -> str:
    plain = name.lower().replace("_", "").replace("-", "")
    return _ALIASES.get(plain, plain)
