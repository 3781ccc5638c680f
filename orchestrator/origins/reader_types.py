"""What is said of origins between those who read them and those who want their bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from orchestrator.catalog.values import OriginStrategy
from orchestrator.errors import Fault, InvalidInput
from orchestrator.origins.credentials import Credentials
from orchestrator.origins.strategies import Kind


@dataclass(frozen=True, slots=True)
class Fetched:
    """An origin's bytes on private scratch, and what the origin said of them."""

    path: Path
    bytes: int
    sha256: str
    fingerprint: str
    """What tells these bytes from others: `{mtime_ns}-{bytes}` of a file, else the SHA-256."""
    media_type: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The origin has the very bytes its ETag was known of; nothing was fetched."""

    etag: str


@dataclass(frozen=True, slots=True)
class Opened:
    """An origin that is being read: its bytes, in chunks, and what it says of them.

    `bytes` is None when it does not say; an `etag` is strong, or "". `fingerprint` is "" where only
    the SHA-256 of the bytes tells them from others.
    """

    chunks: AsyncIterator[bytes]
    bytes: int | None
    media_type: str = ""
    etag: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """How an origin is to be opened. With `known_etag` it need not be when it has that still."""

    kind: Kind
    credentials: Credentials = field(default_factory=Credentials)
    known_etag: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an optimised origin is, so that it can be a source: its location, its length in bytes,
    and the fingerprint that says whether it is the same still.
    """

    location: str
    bytes: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Examined:
    """What a dry run found: the strategy that fits, and the fault that would stop an ingest."""

    origin: str
    kind: Kind
    strategy: OriginStrategy | None
    optimised: bool = False
    bytes: int | None = None
    media_type: str = ""
    etag: str = ""
    fault: Fault | None = None


class OriginReader(Protocol):
    """One way of reading origins; filled by http.py, file.py, s3.py, sftp.py and ftp.py."""

    def open(self, origin: str, access: Access) -> AbstractAsyncContextManager[Opened | Unchanged]:
        """Read the origin; what is left unread when the block ends is not waited for.

        Raises, also while the chunks are read, OriginUnavailable, InvalidInput or Unavailable with
        the public cause. The caller bounds the time and the bytes.
        """
        ...


class Sources(Protocol):
    """Origins that can be sources, besides files; filled by s3.py."""

    async def place(self, origin: str, access: Access) -> Place:
        """Where the origin is. Raises OriginUnavailable."""
        ...

    def read(
        self, location: str, access: Access, etag: str
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes at a place that was given, if they have this ETag still.

        Raises OriginUnavailable; its code is origin_changed when they have not.
        """
        ...


def scheme_of(origin: str) -> str:
    """Return the scheme in lower case; `file` for an absolute path. Raises InvalidInput."""
    if origin.startswith("/"):
        return "file"
    try:
        scheme = urlsplit(origin).scheme
    except ValueError as error:
        raise InvalidInput("The origin is not a well-formed address.") from error
    if not scheme:
        raise InvalidInput(
            "The origin should be an absolute path or an address such as https://..."
        )
    return scheme


def local_path(origin: str) -> Path:
    """Return the path of a file origin (`/path` or `file:///path`). Raises InvalidInput for any
    other.
    """
    if scheme_of(origin) != "file":
        raise InvalidInput("The origin is not a local file.")
    if origin.startswith("/"):
        return Path(origin)
    parts = urlsplit(origin)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise InvalidInput("A file origin should read file:///absolute/path.")
    return Path(path)
