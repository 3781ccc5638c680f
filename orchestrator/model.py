"""The values every part shares: who an asset is, what is known of it, where its pixels are.

All frozen. Nothing here does I/O or knows of HTTP, SQL or libvips.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from os import stat_result
from typing import Self
from urllib.parse import quote

from orchestrator.errors import InvalidImageRequest

MAX_ASSET_ID_CHARS = 220
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")  # nor halves of a surrogate pair


@dataclass(frozen=True, slots=True, order=True)
class AssetId:
    """`customer/space/name`; the name may hold slashes, which the text form writes as %2F (and %
    as %25).
    """

    customer: int
    space: int
    name: str

    def __post_init__(self) -> None:
        """Refuse what no image can be called. Raises InvalidImageRequest."""
        parts = self.name.split("/")
        if (
            not self.name
            or len(str(self)) > MAX_ASSET_ID_CHARS
            or _FORBIDDEN.search(self.name)
            or any(part in ("", ".", "..") for part in parts)
        ):
            raise InvalidImageRequest("identifier", "The identifier is not one of an image here.")

    def __str__(self) -> str:
        """Write the text form, which `parse` reads."""
        name = self.name.replace("%", "%25").replace("/", "%2F")
        return f"{self.customer}/{self.space}/{name}"

    @property
    def surrogate_key(self) -> str:
        """The key under which a CDN files every response of this asset; a purge names the same."""
        return f"asset-{quote(str(self), safe='')}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; a name's own slashes may be written raw or as %2F. Raises
        InvalidImageRequest.
        """
        customer, _, rest = text.partition("/")
        space, _, name = rest.partition("/")
        if not _is_number(customer) or not _is_number(space):
            raise InvalidImageRequest("identifier", "The identifier is not customer/space/image.")
        name = re.sub(
            r"%(2F|25)", lambda m: "/" if m[1].upper() == "2F" else "%", name, flags=re.IGNORECASE
        )
        return cls(int(customer), int(space), name)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


Dimensions = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True, slots=True)
class ThumbnailSizes:
    """The thumbnails there are, each list largest first, as (width, height); the shape of
    `s.json`.
    """

    open: tuple[Dimensions, ...] = ()
    auth: tuple[Dimensions, ...] = ()

    def all(self) -> tuple[Dimensions, ...]:
        """Open and auth together, largest first."""
        return tuple(sorted({*self.open, *self.auth}, key=lambda s: (-max(s), -min(s))))


class SourceKind(StrEnum):
    """What the source file is, which decides how a region is cut from it."""

    JPEG2000 = "jpeg2000"
    PYRAMID_TIFF = "pyramid-tiff"
    ORIGINAL = "original"


STORE, FILE = "store:", "file://"
"""What a source's location begins with: a key of our object store, a file read in place."""


def file_fingerprint(status: stat_result) -> str:
    """Return `{mtime_ns}-{bytes}`, which tells one content of a file from another."""
    return f"{status.st_mtime_ns}-{status.st_size}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the pixels of one asset version are.

    `location` is `store:{key}` (our object store), `file:///absolute/path` (read in place) or
    `s3://[region/]bucket/key` (an optimised origin). `fingerprint` is the ETag (store, s3) or
    `{mtime_ns}-{bytes}` (file): other bytes there mean another version.
    """

    location: str
    kind: SourceKind
    bytes: int
    fingerprint: str
    extension: str
    tile_width: int
    tile_height: int
    levels: int
    """How many times the image can be halved: scale factors are 1 ... 2**levels."""
    natively_tiled: bool = False


class AssetState(StrEnum):
    """`registered`: answerable from its original; `ingesting`: an ingest is asked for or under way,
    what there was is served meanwhile; `ready`: converted; `failed`: not made, `error` says why.
    """

    REGISTERED = "registered"
    INGESTING = "ingesting"
    READY = "ready"
    FAILED = "failed"


def public_edge(roles: Collection[str], max_unauthorised: int) -> int | None:
    """Longest edge in pixels anyone may see under these rights; None without limit; 0 for
    nothing.
    """
    return max(max_unauthorised, 0) if roles or max_unauthorised >= 0 else None


@dataclass(frozen=True, slots=True)
class Asset:
    """A snapshot of one asset. Everything derived is keyed by `version`, which changes with the
    pixels or the rights.
    """

    id: AssetId
    version: int
    state: AssetState
    width: int
    height: int
    origin: str = ""
    origin_fingerprint: str = ""
    """What the origin's bytes were when this version was made (`{mtime_ns}-{bytes}` of a file, an
    ETag or SHA-256 of anything else): an ingest of the same bytes has nothing to do.
    """
    media_type: str = ""
    optimisation_policy: str = ""
    thumbnail_policy: str = ""
    roles: tuple[str, ...] = ()
    max_unauthorised: int = -1
    """Longest edge anyone may see; -1: no limit unless there are roles; 0: nothing."""
    strings: tuple[str, str, str] = ("", "", "")
    numbers: tuple[int, int, int] = (0, 0, 0)
    tags: tuple[str, ...] = ()
    rights: str = ""
    thumbnails: ThumbnailSizes = field(default_factory=ThumbnailSizes)
    thumbnails_version: int = 0
    """The version under which the thumbnail objects are stored (rights changes keep them where
    they are).
    """
    source: Source | None = None
    error: str = ""
    updated: datetime | None = None
    """When this version was published: Last-Modified of everything derived from it. UTC."""
    origin_etag: str = ""
    """What the origin called the bytes this version was made from, to ask for others only."""
    origin_sha256: str = ""
    """The SHA-256 of those bytes, in hexadecimal; "" where they were never read whole."""
    batch: int | None = None
    """The batch its latest ingest came with."""
    declared: datetime | None = None
    """When its latest ingest was asked for, or begun."""
    finished: datetime | None = None
    """When its latest ingest ended, well or not; None while one is under way."""
    pinned: bool = False
    """Its cached files are never evicted for room."""
    orchestrate: bool = True
    """False: its source is never copied to fast disk."""

    @property
    def dimensions(self) -> Dimensions:
        """(width, height) in pixels, after EXIF orientation."""
        return self.width, self.height

    @property
    def ingesting(self) -> bool:
        """True while an ingest of the asset waits or runs."""
        return self.state is AssetState.INGESTING

    @property
    def servable(self) -> bool:
        """False while there is nothing to show of it: declared, or its first ingest failed."""
        return self.source is not None

    @property
    def restricted(self) -> bool:
        """True if some request for it needs a right: it has roles, or a limit on what the public
        may see.
        """
        return bool(self.roles) or self.max_unauthorised >= 0

    @property
    def public_edge(self) -> int | None:
        """Longest edge in pixels anyone may see; None without limit; 0 for nothing."""
        return public_edge(self.roles, self.max_unauthorised)
