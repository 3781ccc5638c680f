"""What a request below `/auth/` may ask for: origins of viewers, and requests of other sites."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from orchestrator.errors import Forbidden, InvalidInput

MAX_ORIGIN_CHARS = 255
_ORIGIN = re.compile(
    r"(https?)://([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?/?"
)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_OTHER_SITE = "This request came from another site. Open the page of this service and begin there."


def parse_origin(text: str) -> str:
    """The origin of a viewer, as browsers serialise it: `https://viewer.example.org`. Some viewers
    send a slash at its end. Raises InvalidInput.
    """
    match = _ORIGIN.fullmatch(text.lower()) if len(text) <= MAX_ORIGIN_CHARS else None
    if match is None:
        raise InvalidInput("origin must be the origin of a page: https://viewer.example.org")
    scheme, host, port = match[1], match[2], match[3] or ""
    return f"{scheme}://{host}{'' if port == _DEFAULT_PORTS[scheme] else port}"


def origin_of(base: str) -> str:
    """The origin of a public address of this server."""
    parts = urlsplit(base)
    return f"{parts.scheme}://{parts.netloc}"


def check_sent_by_our_page(headers: Mapping[str, str], base: str) -> None:
    """Refuse a form that a page of another site sent; `base` is our public address. Raises
    Forbidden.

    Browsers say who sends a request with `Sec-Fetch-Site`; older ones and those on plain http with
    `Origin`, whose host must be ours. Scripts can set neither. A client
    that sends neither is no browser: it has no cookies of a user that another site could use.
    """
    site = headers.get("Sec-Fetch-Site", "")
    if site:
        is_ours = site in ("same-origin", "none")
    else:
        origin = headers.get("Origin", "")
        is_ours = not origin or urlsplit(origin).netloc == urlsplit(base).netloc
    if not is_ours:
        raise Forbidden(_OTHER_SITE)


def check_shown_in_a_window(headers: Mapping[str, str]) -> None:
    """Refuse a request that another page makes without showing its answer, as an image or in a
    frame. Raises Forbidden.
    """
    if headers.get("Sec-Fetch-Dest", "document") != "document":
        raise Forbidden(_OTHER_SITE)
