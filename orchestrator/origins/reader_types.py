"""Types shared by origin readers and their callers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from orchestrator.catalog.values import OriginStrategy
from orchestrator.errors import Fault
from orchestrator.origins.credentials import Credentials
from orchestrator.origins.origin_kinds import OriginKind
from orchestrator.storage.customer_buckets import S3Login


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """The bytes of an origin, copied to a private scratch file, and what the origin reported."""

    path: Path
    bytes: int
    sha256: str
    """In hexadecimal."""
    fingerprint: str
    """Identifies these bytes: `{mtime_ns}-{bytes}` of a local file, else the SHA-256."""
    media_type: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class NotModified:
    """The origin still has the ETag the caller knew. Nothing was fetched."""

    etag: str


@dataclass(frozen=True, slots=True)
class OriginStream:
    """An open origin: its bytes, in chunks, and what it reports about them.

    `bytes` is None when the origin reports no length. `etag` is a strong ETag or "". `fingerprint`
    is "" when only the SHA-256 identifies the bytes.
    """

    chunks: AsyncIterator[bytes]
    bytes: int | None
    media_type: str = ""
    etag: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class OriginAccess:
    """How to open an origin. With `known_etag` a reader may answer NotModified. `login` is that of
    a bucket of the settings, instead of credentials.
    """

    kind: OriginKind
    credentials: Credentials = field(default_factory=Credentials)
    known_etag: str = ""
    customer: int = 0
    login: S3Login | None = None


@dataclass(frozen=True, slots=True)
class OriginLocation:
    """Where an optimised origin is, so that it can be the source of an asset: its location, its
    length in bytes, and the fingerprint that shows whether it is still the same.
    """

    location: str
    bytes: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class OriginReport:
    """The result of examining an origin: the strategy that reads it, and the fault that would stop
    an ingest.
    """

    origin: str
    kind: OriginKind
    strategy: OriginStrategy | None
    optimised: bool = False
    bytes: int | None = None
    media_type: str = ""
    etag: str = ""
    fault: Fault | None = None


class OriginReader(Protocol):
    """Reads origins of one kind; the `..._reader` modules implement it."""

    def open(
        self, origin: str, access: OriginAccess
    ) -> AbstractAsyncContextManager[OriginStream | NotModified]:
        """Open the origin. Leaving the block does not wait for bytes that were not read.

        Raises OriginUnavailable, InvalidInput or Unavailable with the public cause, also while the
        chunks are read. The caller limits time and bytes.
        """
        ...
