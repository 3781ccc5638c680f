"""The landing page of `/`, its JSON form, and the static files: pure values in, bytes out.

Owns the HTML templates and what `/static/` serves. Refuses inline scripts and styles (the page
is sent with a policy that forbids them), hosts of others, and any I/O after `LandingPage.load`:
everything is read once, at start, within bounds.
"""

from __future__ import annotations

import gzip
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from string import Template
from types import MappingProxyType
from typing import Self
from urllib.parse import quote, urlsplit

from orchestrator.iiif.thumbnail_sizes import thumbnail_size
from orchestrator.model import AssetId, AssetState, Dimensions
from orchestrator.routing.delivery_types import etag_of

THUMBNAIL_EDGE = 400
STATIC_PREFIX = "/static/"
STATIC_CACHE = "public, max-age=86400"
"""Cache-Control of static files; their addresses carry a hash, so a new release is seen at once."""
HTML_CACHE = "no-cache"
"""Cache-Control of the page and of the listing: a new picture shows on the next visit."""
_MAX_STATIC_FILE = 2 * 1024**2
_MAX_STATIC_FILES = 100
_VIEWER = "vendor/openseadragon.min.js"
_MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
_STATES = {
    AssetState.REGISTERED: "preparing",
    AssetState.INGESTING: "preparing",
    AssetState.READY: "",
    AssetState.FAILED: "failed",
}


@dataclass(frozen=True, slots=True)
class ListedAsset:
    """One asset as the page shows it."""

    id: AssetId
    service: str
    """The image service's URI without a trailing slash, `http://host/iiif/3/1%2F1%2Fname`."""
    width: int
    height: int
    state: AssetState = AssetState.READY
    public_edge: int | None = None
    """Longest edge in pixels that anyone may see; None without limit."""

    @property
    def info(self) -> str:
        """The address of the info document."""
        return f"{self.service}/info.json"

    @property
    def thumbnail_size(self) -> Dimensions:
        """(width, height) in pixels of the picture's thumbnail, never larger than the picture or
        than anyone may see.
        """
        edge = THUMBNAIL_EDGE if self.public_edge is None else min(THUMBNAIL_EDGE, self.public_edge)
        return thumbnail_size((self.width, self.height), edge)

    @property
    def thumbnail(self) -> str:
        """The address of the thumbnail, at the exact size of one that the default policy makes."""
        width, height = self.thumbnail_size
        return f"{self.service}/full/{width},{height}/0/default.jpg"


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of the collection; `next` is the address of the following one, None on the last."""

    pictures: tuple[ListedAsset, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file below `/static/`, plain and gzipped (b"" where that gains nothing)."""

    body: bytes
    media_type: str
    etag: str
    """Of the plain form, quotes included."""
    packed: bytes


def listing_json(listing: Listing) -> bytes:
    """The listing as `GET /` with `Accept: application/json` answers it, UTF-8."""
    images = [
        {
            "id": str(picture.id),
            "info": picture.info,
            "width": picture.width,
            "height": picture.height,
            "thumbnail": picture.thumbnail,
            "state": str(picture.state),
        }
        for picture in listing.pictures
    ]
    return json.dumps({"images": images, "next": listing.next}).encode()


def content_security_policy(listing: Listing) -> str:
    """The policy to send with the page: our own files, and pictures from the hosts listed."""
    hosts = " ".join(sorted({_origin(picture.service) for picture in listing.pictures} - {""}))
    seen = f"'self' {hosts}".rstrip()
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {seen} blob: data:; "
        f"connect-src {seen}; worker-src blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _origin(address: str) -> str:
    """`scheme://host`, or nothing where it has characters that could end a policy's directive."""
    parts = urlsplit(address)
    safe = (
        parts.scheme in ("http", "https")
        and parts.netloc
        and not set(parts.netloc) & set(" ;,'\"@")
    )
    return f"{parts.scheme}://{parts.netloc}" if safe else ""


def static_files() -> Mapping[str, StaticFile]:
    """Every file of `web/static/` by its path below `/static/`, read now.

    Left out: what is over 2 MiB or of no kind the page uses (source maps, licences).
    """
    files: dict[str, StaticFile] = {}
    _collect(resources.files("orchestrator.web") / "static", "", files)
    return MappingProxyType(files)


def _collect(folder: Traversable, prefix: str, files: dict[str, StaticFile]) -> None:
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            _collect(entry, f"{prefix}{entry.name}/", files)
            continue
        media_type = _MEDIA_TYPES.get("." + entry.name.rpartition(".")[2])
        body = entry.read_bytes() if media_type and len(files) < _MAX_STATIC_FILES else b""
        if media_type and 0 < len(body) <= _MAX_STATIC_FILE:
            files[prefix + entry.name] = _static_file(body, media_type)


def _static_file(body: bytes, media_type: str) -> StaticFile:
    packed = gzip.compress(body, mtime=0) if not media_type.startswith("image/png") else b""
    if len(packed) >= len(body):
        packed = b""
    return StaticFile(body, media_type, etag_of(body), packed)


class LandingPage:
    """The landing page, its templates and static files in memory."""

    def __init__(
        self, templates: Mapping[str, Template], files: Mapping[str, StaticFile], version: str
    ) -> None:
        """`version` is the product's, as shown in the foot of the page."""
        self._templates = templates
        self._version = version
        self.files = files

    @classmethod
    def load(cls, version: str) -> Self:
        """Read templates and static files from the package."""
        folder = resources.files("orchestrator.web") / "templates"
        templates = {
            name: Template((folder / f"{name}.html").read_text("utf-8"))
            for name in ("page", "card", "empty")
        }
        return cls(templates, static_files(), version)

    def html(self, listing: Listing, *, problem: str = "") -> bytes:
        """The page, UTF-8; `problem` is a public sentence that says why nothing can be listed."""
        is_empty = not (listing.pictures or listing.next or problem)
        empty = self._templates["empty"].substitute() if is_empty else ""
        page = self._templates["page"].substitute(
            cards="\n".join(map(self._card, listing.pictures)),
            blank=self._templates["card"].substitute(_BLANK),
            empty=empty,
            problem=_escape(problem),
            problem_hidden="" if problem else "hidden",
            next=_escape(listing.next or ""),
            next_hidden="" if listing.next else "hidden",
            tools_hidden="" if listing.pictures else "hidden",
            version=_escape(self._version),
            script=self._address("page.js"),
            style=self._address("page.css"),
            icon=self._address("icon.svg"),
            viewer=self._address(_VIEWER),
        )
        return page.encode()

    def _card(self, picture: ListedAsset) -> str:
        width, height = picture.thumbnail_size
        return self._templates["card"].substitute(
            anchor="#" + quote(str(picture.id), safe="/"),
            id=_escape(str(picture.id)),
            service=_escape(picture.service),
            name=_escape(picture.id.name),
            width=picture.width,
            height=picture.height,
            thumbnail=f'src="{_escape(picture.thumbnail)}"',
            thumbnail_width=width,
            thumbnail_height=height,
            state=_STATES[picture.state],
        )

    def _address(self, name: str) -> str:
        """The address of a static file, with its hash (which its tag is); empty where the file is
        not installed.
        """
        file = self.files.get(name)
        return STATIC_PREFIX + name + "?v=" + file.etag.strip('"') if file else ""


_BLANK = {
    "anchor": "#", "id": "", "service": "", "name": "", "width": 0, "height": 0,
    "thumbnail": "", "thumbnail_width": 4, "thumbnail_height": 3, "state": "",
}  # fmt: skip


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
