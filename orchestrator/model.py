"""The values that all parts share: the id of an asset, its snapshot, and its source.

All are immutable. Nothing here does I/O or depends on HTTP, SQL or libvips.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from os import stat_result
from typing import Self
from urllib.parse import quote

from orchestrator.errors import InvalidImageRequest

MAX_ASSET_ID_CHARS = 220
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")  # and unpaired surrogates


@dataclass(frozen=True, slots=True, order=True)
class AssetId:
    """`customer/space/name`. The name may contain slashes; the text form writes them as %2F, and
    % as %25.
    """

    customer: int
    space: int
    name: str

    def __post_init__(self) -> None:
        """Reject invalid names. Raises InvalidImageRequest."""
        parts = self.name.split("/")
        if (
            not self.name
            or len(str(self)) > MAX_ASSET_ID_CHARS
            or _FORBIDDEN.search(self.name)
            or any(part in ("", ".", "..") for part in parts)
        ):
            raise InvalidImageRequest("identifier", "The identifier is not the id of an asset.")

    def __str__(self) -> str:
        """Return the text form, which `parse` reads."""
        name = self.name.replace("%", "%25").replace("/", "%2F")
        return f"{self.customer}/{self.space}/{name}"

    @property
    def surrogate_key(self) -> str:
        """The key of this asset in every response to a CDN; a purge request sends the same key."""
        return f"asset-{quote(str(self), safe='')}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text form; slashes in the name may be raw. Raises InvalidImageRequest."""
        customer, _, rest = text.partition("/")
        space, _, name = rest.partition("/")
        if not _is_number(customer) or not _is_number(space):
            raise InvalidImageRequest(
                "identifier", "The identifier is not customer/space/name. Write 1/1/page."
            )
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
    """The sizes of the stored thumbnails as (width, height), each list largest first; the content
    of `s.json`.
    """

    open: tuple[Dimensions, ...] = ()
    auth: tuple[Dimensions, ...] = ()

    def all(self) -> tuple[Dimensions, ...]:
        """All sizes, largest first."""
        return tuple(sorted({*self.open, *self.auth}, key=lambda s: (-max(s), -min(s))))


class SourceKind(StrEnum):
    """The format of a source, which decides how a region is cut from it."""

    JPEG2000 = "jpeg2000"
    PYRAMID_TIFF = "pyramid-tiff"
    ORIGINAL = "original"


SENT = "upload:"
"""Prefix of an origin that a client sent in the body of a request: a key of the object store."""
STORE, FILE = "store:", "file://"
"""Prefixes of `Source.location`: a key of the object store, a file that is read in place."""


def file_fingerprint(status: stat_result) -> str:
    """Return `{mtime_ns}-{bytes}`, which changes with the content of a file."""
    return f"{status.st_mtime_ns}-{status.st_size}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the pixels of one asset version are.

    `location` is `store:{key}` (the object store), `file:///absolute/path` (a file that is read in
    place) or `s3://[region/]bucket/key` (an optimised origin). `fingerprint` is the ETag (store,
    s3) or `{mtime_ns}-{bytes}` (file). If it differs, the bytes belong to another version.
    """

    location: str
    kind: SourceKind
    bytes: int
    fingerprint: str
    extension: str
    tile_width: int
    tile_height: int
    levels: int
    """Number of resolution levels below the full size: scale factors are 1 ... 2**levels."""
    natively_tiled: bool = False


UNREADABLE = frozenset(("damaged", "unsupported", "not_an_image"))
"""Codes of errors after which no request can be answered from the original."""
LASTING = UNREADABLE | {"too_large"}
"""Codes of errors that the same file has each time, with one release of the product."""


class AssetState(StrEnum):
    """`registered`: served from its original; `ingesting`: an ingest is requested or in progress,
    and the previous version is served; `ready`: converted; `failed`: `error` says why.
    """

    REGISTERED = "registered"
    INGESTING = "ingesting"
    READY = "ready"
    FAILED = "failed"


def public_edge(roles: Collection[str], max_unauthorised: int) -> int | None:
    """Longest edge in pixels that everyone may see; None: no limit; 0: nothing."""
    return max(max_unauthorised, 0) if roles or max_unauthorised >= 0 else None


def is_narrower(roles: Collection[str], max_unauthorised: int, known: Asset) -> bool:
    """True if these rights show no client more than those of the asset, and some client less."""
    if (tuple(roles), max_unauthorised) == (known.roles, known.max_unauthorised):
        return False
    edge, before = public_edge(roles, max_unauthorised), known.public_edge
    opens = before is not None and (edge is None or edge > before)
    return not opens and (not known.roles or (bool(roles) and set(roles) <= set(known.roles)))


@dataclass(frozen=True, slots=True)
class RequestedIngest:
    """What the last accepted ingest will publish besides pixels, with every later change merged in.
    The names are those of `Asset`. `force`: ingest even if nothing has changed.
    """

    origin: str = ""
    optimisation_policy: str = ""
    thumbnail_policy: str = ""
    roles: tuple[str, ...] = ()
    max_unauthorised: int = -1
    strings: tuple[str, str, str] = ("", "", "")
    numbers: tuple[int, int, int] = (0, 0, 0)
    tags: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    rights: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class Asset:
    """A snapshot of one asset. Everything made from it is keyed by `version`, which changes with
    the pixels and the rights.
    """

    id: AssetId
    version: int
    state: AssetState
    width: int
    height: int
    origin: str = ""
    origin_fingerprint: str = ""
    """Identifies the bytes of the origin when this version was made: `{mtime_ns}-{bytes}` of a
    file, an ETag or SHA-256 otherwise. An ingest of the same bytes changes nothing.
    """
    media_type: str = ""
    optimisation_policy: str = ""
    thumbnail_policy: str = ""
    roles: tuple[str, ...] = ()
    max_unauthorised: int = -1
    """Longest edge in pixels that everyone may see; 0: nothing, -1: no limit without roles."""
    strings: tuple[str, str, str] = ("", "", "")
    numbers: tuple[int, int, int] = (0, 0, 0)
    tags: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    """The manifests that it belongs to, by names of the customer's choice."""
    rights: str = ""
    made_with: str = ""
    """Identifies the definitions of the policies that it was made with; "" if not known."""
    thumbnails: ThumbnailSizes = field(default_factory=ThumbnailSizes)
    thumbnails_version: int = 0
    """The version in the keys of the thumbnail objects. A change of rights keeps the objects."""
    source: Source | None = None
    error: str = ""
    updated: datetime | None = None
    """When this version was published, UTC; the Last-Modified of everything made from it."""
    origin_etag: str = ""
    """ETag of the origin when this version was made, for a conditional request."""
    origin_sha256: str = ""
    """SHA-256 of the origin in hexadecimal; "" if it was never read completely."""
    batch: int | None = None
    """The batch of its latest ingest."""
    declared: datetime | None = None
    """When its latest ingest was requested or started."""
    finished: datetime | None = None
    """When its latest ingest ended, successful or not; None while one is in progress."""
    error_code: str = ""
    """The code of `error` (`errors.OrchestratorError.code`); "" if it has none."""
    error_release: str = ""
    """The release of the product that found the error."""
    pinned: bool = False
    """True: its cached files are never evicted."""
    orchestrate: bool = True
    """False: its source is never copied to fast disk."""
    generation: int = 0
    """Of the last accepted request that created or changed the asset; it grows with each."""
    ingest_generation: int = 0
    """Of the last accepted request for an ingest: only that ingest may publish."""
    requested: RequestedIngest | None = None
    """None after the ingest was published."""

    @property
    def dimensions(self) -> Dimensions:
        """(width, height) in pixels, after EXIF orientation."""
        return self.width, self.height

    @property
    def ingesting(self) -> bool:
        """True while an ingest of the asset waits or runs."""
        return self.state is AssetState.INGESTING

    @property
    def is_pending(self) -> bool:
        """True while an accepted ingest of the asset has not ended."""
        return self.ingesting and self.requested is not None

    def as_requested(self) -> Asset:
        """Return the asset as it will be when its accepted ingest, if there is one, is published.
        Pixels and thumbnails are those of now.
        """
        asked = self.requested
        if asked is None or not self.is_pending:
            return self
        return replace(
            self,
            origin=asked.origin,
            optimisation_policy=asked.optimisation_policy,
            thumbnail_policy=asked.thumbnail_policy,
            roles=asked.roles,
            max_unauthorised=asked.max_unauthorised,
            strings=asked.strings,
            numbers=asked.numbers,
            tags=asked.tags,
            manifests=asked.manifests,
            rights=asked.rights,
        )

    @property
    def servable(self) -> bool:
        """False if there is nothing to serve: it is only declared, its first ingest failed, or its
        original is refused.
        """
        return self.source is not None and not self.refused

    @property
    def refused(self) -> bool:
        """True if the original in its source cannot be served, and there is no version before it.
        `error` and `error_code` say why.
        """
        is_unreadable = self.error_code in UNREADABLE or not self.width
        return (
            self.state is AssetState.FAILED
            and self.source is not None
            and not self.thumbnails_version
            and bool(self.error_code)
            and is_unreadable
        )

    @property
    def restricted(self) -> bool:
        """True if some requests for it need a right: it has roles or a limit of size."""
        return bool(self.roles) or self.max_unauthorised >= 0

    @property
    def public_edge(self) -> int | None:
        """Longest edge in pixels that everyone may see; None: no limit; 0: nothing."""
        return public_edge(self.roles, self.max_unauthorised)
