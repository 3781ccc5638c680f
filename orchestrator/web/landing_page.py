"""The landing page of `/`, its JSON form, and the static files, as bytes.

This module owns the HTML templates and the files below `/static/`. It reads them once, at start,
and limits their size and number. The page has no inline scripts and styles and loads nothing from
other hosts; its Content-Security-Policy forbids both.
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
"""Cache-Control of static files. Their addresses contain a hash, so that a browser loads the files
of a new release at once.
"""
HTML_CACHE = "no-cache"
"""Cache-Control of the page and of its JSON form: a new asset appears on the next visit."""
_MAX_STATIC_FILE = 2 * 1024**2
_MAX_STATIC_FILES = 100
_NO_THUMBNAIL = (4, 3)
"""The shape of the frame of a picture that is not served."""
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
    """The URI of the image service without a trailing slash: `http://host/iiif/3/1%2F1%2Fname`."""
    width: int
    height: int
    state: AssetState = AssetState.READY
    error: str = ""
    """Why the picture is not served; "" if it is."""
    code: str = ""
    """The code of `error`, for programs."""
    public_edge: int | None = None
    """Longest edge in pixels that anyone may see; None: no limit."""

    @property
    def info(self) -> str:
        """The address of the info document."""
        return f"{self.service}/info.json"

    @property
    def thumbnail_size(self) -> Dimensions:
        """(width, height) in pixels of the thumbnail, never larger than the image or than anyone
        may see.
        """
        if self.error:
            return _NO_THUMBNAIL
        edge = THUMBNAIL_EDGE if self.public_edge is None else min(THUMBNAIL_EDGE, self.public_edge)
        return thumbnail_size((self.width, self.height), edge)

    @property
    def thumbnail(self) -> str:
        """The address of the thumbnail, at exactly the size that the default policy makes; "" for a
        picture that is not served.
        """
        if self.error:
            return ""
        width, height = self.thumbnail_size
        return f"{self.service}/full/{width},{height}/0/default.jpg"


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of the list; `next` is the address of the following page, None on the last."""

    assets: tuple[ListedAsset, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file below `/static/`, plain and compressed with gzip (b"" if that is not smaller)."""

    body: bytes
    media_type: str
    etag: str
    """The ETag of the plain form, with quotes."""
    gzip: bytes


def encode_listing(listing: Listing) -> bytes:
    """Return the JSON of `GET /` with `Accept: application/json`, in UTF-8. Every one of its
    `images` can be shown; `refused`, if there are any, are those that cannot, with the reason.
    """
    images, refused = [], []
    for asset in listing.assets:
        entry = {"id": str(asset.id), "info": asset.info, "state": str(asset.state)}
        if asset.error:
            refused.append(entry | {"error": asset.error, "code": asset.code})
        else:
            size = {"width": asset.width, "height": asset.height}
            images.append(entry | size | {"thumbnail": asset.thumbnail})
    parts = {"images": images} | ({"refused": refused} if refused else {})
    return json.dumps(parts | {"next": listing.next}).encode()


def content_security_policy(listing: Listing) -> str:
    """Return the policy of the page: files of this server, and images of the listed addresses."""
    hosts = " ".join(sorted({_origin(asset.service) for asset in listing.assets} - {""}))
    image_hosts = f"'self' {hosts}".rstrip()
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"img-src {image_hosts} blob: data:; "
        f"connect-src {image_hosts}; worker-src blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _origin(address: str) -> str:
    """Return `scheme://host`, or "" if it has characters that could end a directive of the
    policy.
    """
    parts = urlsplit(address)
    is_safe = (
        parts.scheme in ("http", "https")
        and parts.netloc
        and not set(parts.netloc) & set(" ;,'\"@")
    )
    return f"{parts.scheme}://{parts.netloc}" if is_safe else ""


def load_static_files() -> Mapping[str, StaticFile]:
    """Read every file of `web/static/`; returns the files by path below `/static/`.

    Files over 2 MiB, and of types that the page does not use (source maps, licences), are omitted.
    """
    files: dict[str, StaticFile] = {}
    _collect_files(resources.files("orchestrator.web") / "static", "", files)
    return MappingProxyType(files)


def static_address(files: Mapping[str, StaticFile], name: str) -> str:
    """Return the address of a static file with its hash, which is its ETag; "" if the file is not
    installed.
    """
    file = files.get(name)
    return STATIC_PREFIX + name + "?v=" + file.etag.strip('"') if file else ""


def _collect_files(folder: Traversable, prefix: str, files: dict[str, StaticFile]) -> None:
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            _collect_files(entry, f"{prefix}{entry.name}/", files)
            continue
        media_type = _MEDIA_TYPES.get("." + entry.name.rpartition(".")[2])
        body = entry.read_bytes() if media_type and len(files) < _MAX_STATIC_FILES else b""
        if media_type and 0 < len(body) <= _MAX_STATIC_FILE:
            files[prefix + entry.name] = _static_file(body, media_type)


def _static_file(body: bytes, media_type: str) -> StaticFile:
    compressed = gzip.compress(body, mtime=0) if not media_type.startswith("image/png") else b""
    if len(compressed) >= len(body):
        compressed = b""
    return StaticFile(body, media_type, etag_of(body), compressed)


class LandingPage:
    """The landing page, with its templates and static files in memory."""

    def __init__(
        self, templates: Mapping[str, Template], files: Mapping[str, StaticFile], version: str
    ) -> None:
        """`version` is the version of the product, shown at the foot of the page."""
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
        return cls(templates, load_static_files(), version)

    def html(self, listing: Listing, *, problem: str = "") -> bytes:
        """Return the page in UTF-8. `problem` is a public sentence that says why there is no
        list.
        """
        is_empty = not (listing.assets or listing.next or problem)
        empty = self._templates["empty"].substitute() if is_empty else ""
        page = self._templates["page"].substitute(
            cards="\n".join(map(self._card, listing.assets)),
            empty_card=self._templates["card"].substitute(_EMPTY_CARD),
            empty=empty,
            problem=_escape(problem),
            problem_hidden="" if problem else "hidden",
            next=_escape(listing.next or ""),
            next_hidden="" if listing.next else "hidden",
            tools_hidden="" if listing.assets else "hidden",
            version=_escape(self._version),
            script=self._address("page.js"),
            style=self._address("page.css"),
            icon=self._address("icon.svg"),
            viewer=self._address(_VIEWER),
        )
        return page.encode()

    def _card(self, asset: ListedAsset) -> str:
        width, height = asset.thumbnail_size
        return self._templates["card"].substitute(
            anchor="#" + quote(str(asset.id), safe="/"),
            id=_escape(str(asset.id)),
            service=_escape(asset.service),
            name=_escape(asset.id.name),
            width=asset.width,
            height=asset.height,
            size=f"{asset.width} × {asset.height}" if asset.width else "",
            thumbnail=f'src="{_escape(asset.thumbnail)}"' if asset.thumbnail else "",
            thumbnail_width=width,
            thumbnail_height=height,
            state=_escape(asset.error) or _STATES[asset.state],
        )

    def _address(self, name: str) -> str:
        return static_address(self.files, name)


_EMPTY_CARD = {
    "anchor": "#", "id": "", "service": "", "name": "", "width": 0, "height": 0,
    "size": "", "thumbnail": "", "thumbnail_width": 4, "thumbnail_height": 3, "state": "",
}  # fmt: skip


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
