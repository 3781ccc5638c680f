"""What origins are opened with: sealed in the catalogue, or kept in a bucket and only linked to.

A secret is never in a log, an error or a `repr`. What is sealed can be opened by any of the keys of
`ingest.credentials_keys`; the newest seals. Nothing is remembered of a link that could not be read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from cachetools import TTLCache
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from orchestrator.errors import InvalidInput, OriginUnavailable
from orchestrator.origins.s3_address import LINK_SHAPE, BucketObject, parse_link

MASK = "xxx"
"""What is shown instead of credentials; given back, it means those that are there."""
MAX_BYTES = 64 * 1024
_SEALED = "fernet:"
_LINK = "s3://"
_NAMES = {
    "username": "user",
    "pass": "password",
    "accesskeyid": "accesskey",
    "awsaccesskeyid": "accesskey",
    "secretaccesskey": "secretkey",
    "awssecretaccesskey": "secretkey",
    "awssessiontoken": "sessiontoken",
    "token": "sessiontoken",
}
"""Other spellings, after lower-casing and leaving out `_` and `-`."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Named secrets; a name that is not there is ""."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def user(self) -> str:
        """A user's name."""
        return self.values.get("user", "")

    @property
    def password(self) -> str:
        """The user's password."""
        return self.values.get("password", "")

    def __getitem__(self, name: str) -> str:
        """The secret of this name, spelt with underscores."""
        return self.values.get(_plain(name), "")

    def __bool__(self) -> bool:
        """False when there are none."""
        return bool(self.values)


class SecretLinks(Protocol):
    """Reads small private objects; filled by `s3.py`."""

    async def read_small(self, where: BucketObject, max_bytes: int) -> bytes:
        """The object's bytes. Raises OriginUnavailable."""
        ...


class Vault:
    """Seals credentials for the catalogue and opens them again."""

    def __init__(self, keys: Sequence[str]) -> None:
        """`keys`: Fernet keys, newest first, at least one. Raises InvalidInput."""
        try:
            self._fernet = MultiFernet([Fernet(key.encode()) for key in keys])
        except ValueError as error:
            raise InvalidInput(
                "ingest.credentials_keys should be 32 bytes each in URL-safe base64 "
                "(`orchestrator origins make-key` prints one)."
            ) from error

    def seal(self, text: str) -> str:
        """What may lie in the catalogue; a link is no secret and stays as it is."""
        if not text or text.startswith(_LINK):
            return text
        return _SEALED + self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """The text that was sealed. Raises OriginUnavailable when none of our keys opens it."""
        if not sealed.startswith(_SEALED):
            return sealed
        try:
            return self._fernet.decrypt(sealed.removeprefix(_SEALED).encode()).decode()
        except InvalidToken as error:
            raise _unusable(
                "The credentials of the origin were sealed with a key that is not among "
                "ingest.credentials_keys."
            ) from error

    def reseal(self, sealed: str) -> str:
        """The same, sealed with the newest key. Raises OriginUnavailable."""
        return self.seal(self.open(sealed))


class CredentialStore:
    """Gives the credentials of a strategy when they are needed."""

    def __init__(
        self,
        vault: Vault,
        links: SecretLinks | None,
        *,
        ttl_s: float,
        allowed_links: Sequence[str] = ("*",),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """A link is read again after `ttl_s` seconds; `allowed_links` are patterns of those that
        are, in which `{customer}` is the customer's number.
        """
        self.vault = vault
        self._links = links
        self._allowed = tuple(allowed_links)
        self._read: TTLCache[str, Credentials] = TTLCache(1000, ttl_s, now)

    async def of(self, customer: int, sealed: str, *, fresh: bool = False) -> Credentials:
        """What the column of a strategy holds or links to; `fresh` reads a link again now.

        Raises OriginUnavailable: `origin_credentials` when they are missing or cannot be read.
        """
        text = self.vault.open(sealed)
        if not text.startswith(_LINK):
            return _of_column(text)
        if not fresh and (known := self._read.get(text)) is not None:
            self.check_link(customer, text)
            return known
        self._read.pop(text, None)
        found = _of_column(await self._linked(customer, text))
        self._read[text] = found
        return found

    def is_linked(self, sealed: str) -> bool:
        """Tell whether reading again may give others."""
        return sealed.startswith(_LINK)

    def check_link(self, customer: int, link: str) -> None:
        """Raise InvalidInput unless the link is well-formed and this customer may use it."""
        where = parse_link(link)
        plain = f"{_LINK}{where.bucket}/{where.key}"
        patterns = [pattern.replace("{customer}", str(customer)) for pattern in self._allowed]
        if not any(fnmatchcase(plain, pattern) for pattern in patterns):
            raise InvalidInput(
                "This link to credentials is not among those permitted (ingest.credentials_links)."
            )

    async def _linked(self, customer: int, link: str) -> str:
        try:
            self.check_link(customer, link)
        except InvalidInput as error:
            raise _unusable(error.public) from error
        if self._links is None:
            raise _unusable("Linked credentials cannot be read here.")
        try:
            body = await self._links.read_small(parse_link(link), MAX_BYTES)
            return body.decode()
        except UnicodeDecodeError as error:
            raise _unusable("The linked credentials are not JSON in UTF-8.") from error
        except OriginUnavailable as error:
            raise OriginUnavailable(
                f"The linked credentials could not be read: {error.public}",
                retryable=error.retryable,
                code="origin_credentials",
            ) from error


def make_key() -> str:
    """A new key for `ingest.credentials_keys`."""
    return Fernet.generate_key().decode()


def parse_credentials(text: str) -> Credentials:
    """Read a JSON object of texts. Raises InvalidInput, which repeats nothing of it."""
    if len(text) > MAX_BYTES:
        raise InvalidInput("Credentials are at most 64 KB.")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput(_SHAPE) from None  # the cause would repeat the secret
    if not isinstance(found, dict):
        raise InvalidInput(_SHAPE)
    values = {
        _plain(name): str(value)
        for name, value in found.items()
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip()
    }
    return Credentials(values)


_SHAPE = (
    'Credentials are a JSON object such as {"user": "...", "password": "..."}, '
    f"or a link such as {LINK_SHAPE}."
)


def _of_column(text: str) -> Credentials:
    if not text:
        return Credentials()
    try:
        return parse_credentials(text)
    except InvalidInput:
        raise _unusable("The credentials of the origin are not a JSON object.") from None


def _plain(name: str) -> str:
    plain = name.lower().replace("_", "").replace("-", "")
    return _NAMES.get(plain, plain)


def _unusable(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_credentials")
