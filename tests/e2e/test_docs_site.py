"""The documentation as a site: it builds without a warning, and is read in a browser without a
network, on a desk and on a phone.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browsing import Visit, browser
from tests.support.patience import patience

__all__ = ["browser"]
ROOT = Path(__file__).parents[2]
PAGES = ("index", "how-it-works", "settings", "openapi")
WIDTHS = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 800}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [Path(sys.executable).with_name("mkdocs"), "build", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120 * patience(),
    )
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return folder


class Joined(ThreadingHTTPServer):
    """Closing it waits for its threads, so that none of their sockets is left open."""

    daemon_threads = False


class Quiet(SimpleHTTPRequestHandler):
    timeout = 5
    """Seconds that a thread waits for a request. Browsers open connections that they do not use."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(site))
    with Joined(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    foreign = {
        f"{page.relative_to(site)}: {target}"
        for page in site.rglob("*.html")
        for target in re.findall(
            r"<(?:script|img|iframe)[^>]+src=\"(https?:[^\"]+)|<link[^>]+rel=\"(?:stylesheet|preconnect)\""
            r"[^>]+href=\"(https?:[^\"]+)",
            page.read_text(),
        )
    }
    assert foreign == set()


def test_the_site_has_the_files_that_pages_link_to(site: Path) -> None:
    for path in (
        "config/nginx.conf",
        "config/cloudfront.yaml",
        "config/default.toml",
        "Dockerfile",
    ):
        assert (site / path).read_bytes() == (ROOT / path).read_bytes()


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_the_screen_and_their_pictures_load(
    browser: Browser, address: str, width: str
) -> None:
    visit = Visit(browser, viewport=WIDTHS[width])
    for page in PAGES:
        visit.goto(f"{address}/{page}.html")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]["width"]
        broken = "[...document.images].filter(each => !each.naturalWidth).map(each => each.src)"
        assert visit.page.evaluate(broken) == []
        visit.shot(f"docs-{page}-{width}.png")
    assert visit.failures() == []
    assert visit.complaints == []
    visit.close()


def test_a_word_is_found_by_the_search(browser: Browser, address: str) -> None:
    visit = Visit(browser, f"{address}/index.html")
    visit.page.locator("input.md-search__input").click()
    visit.page.locator("input.md-search__input").press_sequentially("scavenger")
    expect(visit.page.locator(".md-search-result__list")).to_contain_text("scavenge")
    assert visit.foreign == []
    visit.close()
