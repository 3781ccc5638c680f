"""The files below `/static/`, which the package has: scripts, styles, icons, and the viewers that
`scripts/vendor.sh` installs.

They are read once, at start; their size and number are limited.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Self

from aiohttp import web

from orchestrator.errors import NotFound
from orchestrator.routing.delivery_types import Delivery, etag_of
from orchestrator.web.error_table import PUBLIC_TEXTS
from orchestrator.web.responses import respond

STATIC_PREFIX = "/static/"
STATIC_CACHE = "public, max-age=86400"
"""Cache-Control of static files. Their addresses contain a hash, so that a browser loads the files
of a new release at once.
"""
VENDOR = "vendor"
"""The folder of what npm installs."""
_MAX_FILE_BYTES = 4 * 1024**2
_MAX_FILES = 200
_MEDIA_TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file."""

    body: bytes
    media_type: str
    etag: str
    """The ETag of the plain form, with quotes."""


class StaticFiles:
    """The files by their path below `/static/`."""

    def __init__(self, files: Mapping[str, StaticFile]) -> None:
        self._files = files
        self._compressed: dict[str, bytes] = {}

    @classmethod
    def load(cls, *, vendor: bool = True) -> Self:
        """Read every file of `web/static/`; without `vendor`, only our own. Source maps, licences
        and files over 4 MiB are omitted. Blocks.
        """
        folder = resources.files("orchestrator.web") / "static"
        found: dict[str, StaticFile] = {}
        for name, entry in _walk(folder, "", vendor=vendor):
            media_type = _MEDIA_TYPES.get(name.rpartition(".")[2], "")
            body = entry.read_bytes() if media_type and len(found) < _MAX_FILES else b""
            if 0 < len(body) <= _MAX_FILE_BYTES:
                found[name] = StaticFile(body, media_type, etag_of(body))
        return cls(found)

    def __contains__(self, name: str) -> bool:
        """True if the file is installed."""
        return name in self._files

    def address(self, name: str) -> str:
        """Return the path of a file with its hash as the query; "" if it is not installed."""
        file = self._files.get(name)
        return f"{STATIC_PREFIX}{name}?v={file.etag[1:-1]}" if file else ""

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the route."""
        router.add_get(STATIC_PREFIX + "{path:.+}", self.show)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Answer with one file."""
        name = request.match_info["path"]
        file = self._files.get(name)
        if file is None:
            raise NotFound(PUBLIC_TEXTS[404])
        if name not in self._compressed:
            # Once a process: a viewer has megabytes, and most processes never send it.
            self._compressed[name] = await asyncio.to_thread(_compress, file)
        delivery = Delivery(
            status=200,
            body=file.body,
            gzip=self._compressed[name] or None,
            media_type=file.media_type,
            tier="",
            request_class="page",
            cache_control=STATIC_CACHE,
            etag=file.etag,
        )
        return respond(request, delivery)


def _walk(folder: Traversable, prefix: str, *, vendor: bool) -> Iterator[tuple[str, Traversable]]:
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        name = prefix + entry.name
        if not entry.is_dir():
            yield name, entry
        elif vendor or name != VENDOR:
            yield from _walk(entry, f"{name}/", vendor=vendor)


def _compress(file: StaticFile) -> bytes:
    """Return the file compressed with gzip; b"" if that is not smaller."""
    compressed = b"" if file.media_type == "image/png" else gzip.compress(file.body, mtime=0)
    return compressed if len(compressed) < len(file.body) else b""
