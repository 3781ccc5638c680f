"""The pages for people: their templates, the policy that every page has, and errors as a page.

Templates are in `web/templates/`; they extend `layout.html`. Jinja escapes every value. A page has
no inline scripts and styles and loads nothing from other hosts; its Content-Security-Policy forbids
both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Self
from urllib.parse import urlsplit

from aiohttp import web
from jinja2 import DictLoader, Environment, StrictUndefined

from orchestrator.web.error_table import Problem
from orchestrator.web.static_files import StaticFiles

HTML = "text/html; charset=utf-8"
_TITLES = {
    400: "This address is not valid",
    401: "Sign in",
    403: "Not permitted",
    404: "Not found",
    409: "Not possible now",
    503: "Not available now",
}


class Pages:
    """The templates with the static files that they name."""

    def __init__(self, templates: Mapping[str, str], files: StaticFiles, version: str) -> None:
        """`version` is that of the product, shown at the foot of each page."""
        self.files = files
        self._templates = Environment(
            loader=DictLoader(templates),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(static=files.address, version=version)
        self._templates.filters.update(number=format_number, bytes=format_bytes, time=format_time)

    @classmethod
    def load(cls, version: str, *, vendor: bool = True) -> Self:
        """Read templates and static files from the package; without `vendor`, no viewers. It
        blocks.
        """
        folder = resources.files("orchestrator.web") / "templates"
        templates = {each.name: each.read_text("utf-8") for each in folder.iterdir()}
        pages = cls(templates, StaticFiles.load(vendor=vendor), version)
        for name in templates:  # a first request must not wait 20 ms for this on the event loop
            pages._templates.get_template(name)
        return pages

    def render(self, template: str, base: str = "", /, **values: object) -> bytes:
        """Return a page in UTF-8. `base` is the public base URL; the links of the page begin with
        its path, `root`.
        """
        root = urlsplit(base).path.rstrip("/")
        page = self._templates.get_template(template).render(root=root, base=base, **values)
        return page.encode()

    def render_error(self, problem: Problem, request_id: str) -> bytes:
        """Return an error as a page in UTF-8."""
        title = _TITLES.get(problem.status, "An error occurred")
        return self.render("error.html", title=title, problem=problem, request_id=request_id)


PAGES = web.RequestKey("pages", Pages)
"""Set by a handler of pages before anything can fail: a client that prefers HTML gets its errors as
pages.
"""


def page_policy(image_services: Iterable[str] = (), *, nonce: str = "") -> str:
    """Return the Content-Security-Policy of a page: files of this server, and pictures of the hosts
    of these image services. With a `nonce`, scripts of the page may add styles that carry it, and
    frames of these hosts, in which viewers ask for tokens (IIIF Authorization Flow).
    """
    hosts = " ".join(["'self'", *sorted({_origin(each) for each in image_services} - {""})])
    styles = f"'self' 'nonce-{nonce}'" if nonce else "'self'"
    frames = f"frame-src {hosts}; " if nonce else ""
    return (
        f"default-src 'none'; script-src 'self'; style-src {styles}; img-src {hosts} blob: data:; "
        f"connect-src {hosts}; worker-src blob:; {frames}form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
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


def format_number(value: float) -> str:
    """Return a number as people read it: 12,345; with one decimal below ten if it has any."""
    return f"{value:,.1f}" if value < 10 and value != int(value) else f"{value:,.0f}"


def format_bytes(size: float) -> str:
    """Return a size in decimal units: 1.5 MB."""
    for unit, factor in (("TB", 1000**4), ("GB", 1000**3), ("MB", 1000**2), ("kB", 1000)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} bytes"


def format_time(seconds: float) -> str:
    """Return a time in its largest unit: 3 hours."""
    for unit, factor in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds:.0f} seconds"
