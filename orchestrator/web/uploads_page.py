"""What the page for uploading, cropping and publishing pictures says of the settings."""

from __future__ import annotations

from orchestrator.settings import Uploads
from orchestrator.web.page_templates import format_bytes, format_time

_MEDIA_TYPES = {
    "webp": "image/webp",
    "avif": "image/avif",
    "heic": "image/heic,image/heif",
    "tiff": "image/tiff",
}


def uploads_page_values(settings: Uploads) -> dict[str, object]:
    """Return the values of the template `uploads.html`, except the path of the routes."""
    formats = ["JPEG", "PNG", "GIF", "SVG", *(each.upper() for each in settings.formats)]
    types = ["image/jpeg", "image/png", "image/gif", "image/svg+xml"]
    return {
        "space": f"{settings.customer}/{settings.space}",
        "max_bytes": settings.max_bytes,
        "max_size": format_bytes(settings.max_bytes),
        "accepted": f"{', '.join(formats[:-1])} or {formats[-1]}",
        "accept": ",".join([*types, *(_MEDIA_TYPES[each] for each in settings.formats)]),
        "expiry": format_time(settings.expire_after_s),
        "takes_tokens": bool(settings.token_secrets),
    }
