"""The credentials of origin strategies: sealed in the catalogue, or in a bucket and only linked to.

Any key of `ingest.credentials_keys` opens sealed credentials; the newest key seals them. A link
that could not be read is read again at the next use.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from cachetools import TTLCache
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from orchestrator.errors import InvalidInput, OriginUnavailable
from orchestrator.origins.credentials import MAX_BYTES, Credentials, parse_credentials
from orchestrator.origins.customer_patterns import is_permitted
from orchestrator.origins.s3_address import LINK_SCHEME, BucketObject, parse_link

_SEALED = "fernet:"
_MAX_LINKS = 1000

ReadObject = Callable[[BucketObject, int], Awaitable[bytes]]
"""Returns the bytes of an object of at most so many bytes. Raises OriginUnavailable."""


class CredentialVault:
    """Seals credentials for the catalogue and opens them again."""

    def __init__(self, keys: Sequence[str]) -> None:
        """`keys`: Fernet keys, newest first, at least one. Raises InvalidInput."""
        try:
            self._fernet = MultiFernet([Fernet(key.encode()) for key in keys])
        except ValueError as error:
            raise InvalidInput(
                "Each key of ingest.credentials_keys must be 32 bytes in URL-safe base64 "
                "(`orchestrator origins make-key` prints one)."
            ) from error

    def seal(self, text: str) -> str:
        """Return the text as the catalogue stores it. A link is no secret and is not sealed."""
        if not text or is_link(text):
            return text
        return _SEALED + self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Return the text that was sealed. Raises OriginUnavailable when no key opens it."""
        if not sealed.startswith(_SEALED):
            return sealed
        try:
            return self._fernet.decrypt(sealed.removeprefix(_SEALED).encode()).decode()
        except InvalidToken as error:
            raise _credentials_fault(
                "The credentials of the origin strategy were sealed with a key that is not in "
                "ingest.credentials_keys. Add the key, or set the credentials again."
            ) from error

    def reseal(self, sealed: str) -> str:
        """Return the same text sealed with the newest key. Raises OriginUnavailable."""
        return self.seal(self.open(sealed))


class CredentialStore:
    """Opens or reads the credentials of a strategy when they are needed."""

    def __init__(
        self,
        vault: CredentialVault,
        read_object: ReadObject,
        *,
        ttl_s: float,
        allowed_links: Sequence[str],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """A link is read again after `ttl_s` seconds. `allowed_links` are the patterns of links
        that may be read; `{customer}` in a pattern stands for the customer's number.
        """
        self.vault = vault
        self._read_object = read_object
        self._allowed = tuple(allowed_links)
        self._linked: TTLCache[str, Credentials] = TTLCache(_MAX_LINKS, ttl_s, now)

    async def credentials(self, customer: int, sealed: str, *, fresh: bool = False) -> Credentials:
        """Return the credentials a strategy holds or links to; `fresh` reads a link again now.

        Raises OriginUnavailable (origin_credentials) when they are missing or cannot be read.
        """
        text = self.vault.open(sealed)
        if not is_link(text):
            return _parse_stored(text)
        if not fresh and (known := self._linked.get(text)) is not None:
            self.check_link(customer, text)
            return known
        self._linked.pop(text, None)
        credentials = _parse_stored(await self._read_link(customer, text))
        self._linked[text] = credentials
        return credentials

    def check_link(self, customer: int, link: str) -> None:
        """Raise InvalidInput unless the link is well-formed and this customer may use it."""
        where = parse_link(link)
        plain = f"{LINK_SCHEME}{where.bucket}/{where.key}"
        if not is_permitted(plain, self._allowed, customer):
            raise InvalidInput(
                "This link to credentials is not allowed. The operator can allow it in "
                "ingest.credentials_links."
            )

    async def _read_link(self, customer: int, link: str) -> str:
        try:
            self.check_link(customer, link)
        except InvalidInput as error:
            raise _credentials_fault(error.public) from error
        try:
            body = await self._read_object(parse_link(link), MAX_BYTES)
            return body.decode()
        except UnicodeDecodeError as error:
            raise _credentials_fault("The linked credentials are not JSON in UTF-8.") from error
        except OriginUnavailable as error:
            raise OriginUnavailable(
                f"The linked credentials cannot be read: {error.public}",
                retryable=error.retryable,
                code="origin_credentials",
            ) from error


def is_link(text: str) -> bool:
    """Return whether these credentials, sealed or given, are a link to a bucket."""
    return text.startswith(LINK_SCHEME)


def make_key() -> str:
    """Return a new key for `ingest.credentials_keys`."""
    return Fernet.generate_key().decode()


def _parse_stored(text: str) -> Credentials:
    if not text:
        return Credentials()
    try:
        return parse_credentials(text)
    except InvalidInput:
        raise _credentials_fault(
            "The credentials of the origin strategy are not a JSON object. Set them again."
        ) from None  # the cause could repeat the secret


def _credentials_fault(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_credentials")
