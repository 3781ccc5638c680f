"""Headless Chromium as a person uses it: a browser, and visits that note everything that comes over
the network.

During a visit every request to a host other than this machine's is refused and noted: the pages
need no network beyond the service.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageStat
from playwright.sync_api import Browser, Page, Response, Route, expect, sync_playwright

from tests.support.patience import patience

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
WAIT_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "chromium is not installed: make setup installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """One person's visit with an empty browser cache, and everything that came over the network."""

    def __init__(self, browser: Browser, address: str = "", **context: Any) -> None:
        """`context` are options of the browser's context; with an address, its page is opened."""
        self.context = browser.new_context(
            **{"viewport": {"width": 1024, "height": 720}, **context}
        )
        self.context.set_default_timeout(WAIT_MS * patience())
        expect.set_options(timeout=WAIT_MS * patience())
        self.foreign: list[str] = []
        self.context.route(lambda url: not _is_own(url), self._refuse)
        self.page: Page = self.context.new_page()
        self.answers: list[Response] = []
        self.complaints: list[str] = []
        self.page.on("response", lambda answer: self.answers.append(answer))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("requestfailed", lambda request: self._note_failure(request))
        if address:
            self.goto(address)

    def goto(self, address: str) -> None:
        """Open a page and wait until nothing is loading."""
        self.page.goto(address)
        self.page.wait_for_load_state("networkidle")

    def close(self) -> None:
        self.context.close()

    def failures(self) -> list[str]:
        """Answers that are errors, and requests to other hosts."""
        failed = [f"{each.status} {each.url}" for each in self.answers if each.status >= 400]
        return failed + self.foreign

    def pictures(self) -> list[Response]:
        """The answers of the Image API, without info documents."""
        return [
            each
            for each in self.answers
            if "/iiif/" in each.url or "/iiif-img/" in each.url
            if "info.json" not in each.url
        ]

    def settle(self) -> None:
        """Wait until nothing has come for half a second."""
        before = -1
        while before != len(self.answers):
            before = len(self.answers)
            self.page.wait_for_timeout(600 * patience())
            self.page.wait_for_load_state("networkidle")

    def wheel_in(self, selector: str, steps: int) -> None:
        """Turn the wheel over an element, which zooms in."""
        box = self.page.locator(selector).bounding_box()
        assert box
        self.page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] * 0.45)
        for _ in range(steps):
            self.page.mouse.wheel(0, -240)
            self.page.wait_for_timeout(250)
        self.settle()

    def shot(self, name: str) -> Image.Image:
        """Take a screenshot, and keep it in build/screenshots."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        # caret="initial": hiding it would inject a style, which the page's policy refuses
        body = self.page.screenshot(path=SHOTS / name, caret="initial")
        return Image.open(BytesIO(body)).convert("RGB")

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _note_failure(self, request: Any) -> None:
        # A viewer that moves on cancels the tiles that it no longer needs.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"{request.failure} {request.url}")

    def _refuse(self, route: Route) -> None:
        self.foreign.append(route.request.url)
        route.abort()


def axe_faults(page: Page) -> list[str]:
    """What axe finds wrong with the page that is open: rule, impact and the elements."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): "
        + ", ".join(node["html"][:200] for node in each["nodes"])
        for each in violations
    ]


def assert_shows_a_picture(shot: Image.Image) -> None:
    """The middle of the screenshot is not blank and not one flat colour."""
    width, height = shot.size
    middle = shot.crop((width // 4, height // 4, 3 * width // 4, 3 * height // 4))
    spread = max(ImageStat.Stat(middle).stddev)
    assert spread > 8, f"the middle is flat (standard deviation {spread:.1f})"


def _is_own(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob") or parts.hostname == "127.0.0.1"
