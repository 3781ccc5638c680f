"""The page for uploading, cropping and publishing pictures, as bytes.

It has no inline scripts and styles and loads nothing from other hosts; its Content-Security-Policy
forbids both. It may not be shown in a frame of another site, because people type a secret into it.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from importlib import resources
from string import Template

from orchestrator.settings import Uploads
from orchestrator.web.landing_page import StaticFile, static_address

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES = {
    "script": "uploads.js",
    "style": "page.css",
    "uploads_style": "uploads.css",
    "icon": "icon.svg",
    "tus": "vendor/tus/tus.min.js",
    "cropper": "vendor/cropper/cropper.min.js",
    "cropper_style": "vendor/cropper/cropper.min.css",
}
_MEDIA_TYPES = {
    "webp": "image/webp",
    "avif": "image/avif",
    "heic": "image/heic,image/heif",
    "tiff": "image/tiff",
}


def uploads_page(
    settings: Uploads, files: Mapping[str, StaticFile], *, prefix: str, version: str
) -> bytes:
    """The page in UTF-8. `prefix` is the path below which the upload routes are, with a slash at
    its end; `version` is that of the product.
    """
    template = Template(
        (resources.files("orchestrator.web") / "templates" / "uploads.html").read_text("utf-8")
    )
    formats = ["JPEG", "PNG", "GIF", "SVG", *(each.upper() for each in settings.formats)]
    types = ["image/jpeg", "image/png", "image/gif", "image/svg+xml"]
    values = {
        "prefix": prefix,
        "space": f"{settings.customer}/{settings.space}",
        "max_bytes": str(settings.max_bytes),
        "max_size": _size_text(settings.max_bytes),
        "accepted": f"{', '.join(formats[:-1])} or {formats[-1]}",
        "accept": ",".join([*types, *(_MEDIA_TYPES[each] for each in settings.formats)]),
        "expiry": _time_text(settings.expire_after_s),
        "version": version,
    }
    addresses = {key: static_address(files, name) for key, name in _FILES.items()}
    escaped = {key: html.escape(text, quote=True) for key, text in (values | addresses).items()}
    hidden = "" if settings.token_secrets else "hidden"
    return template.substitute(escaped, token_hidden=hidden).encode()


def _size_text(size: int) -> str:
    for unit, factor in (("GB", 1000**3), ("MB", 1000**2), ("kB", 1000)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def _time_text(seconds: float) -> str:
    if seconds >= 7200:
        return f"{seconds / 3600:.3g} hours"
    return f"{seconds / 60:.3g} minutes"
