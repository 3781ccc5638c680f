"""A person with a browser: headless Chromium opens the page and zooms into a large picture."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageStat
from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

from tests.e2e.conftest import run_command
from tests.support.scenes import write_jpeg
from tests.support.serve_process import ServeProcess, assert_log_clean, run_server

pytestmark = pytest.mark.timeout(900)

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LARGE = (12_000, 9_000)
SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    home = tmp_path_factory.mktemp("browser")
    folder = home / "pictures"
    write_jpeg(folder / "fractal.jpg", *LARGE, grain=3)
    write_jpeg(folder / "album" / "sheet.jpg", 1501, 1003)
    write_jpeg(folder / "tiny.jpg", 60, 40)
    with run_server(folder, workers=2, data=home / "data") as server:
        server.wait_converted(expected=3)
        yield server
    assert_log_clean(server.log())


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

    def __init__(self, browser: Browser, server: ServeProcess, **context: object) -> None:
        self.context = browser.new_context(
            viewport={"width": 1024, "height": 720},
            **context,  # type: ignore[arg-type]
        )
        self.page: Page = self.context.new_page()
        self.answers: list[Response] = []
        self.complaints: list[str] = []
        self.page.on("response", lambda answer: self.answers.append(answer))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._note)
        self.page.goto(server.public + "/")
        self.page.wait_for_load_state("networkidle")

    def _note(self, message: object) -> None:
        if message.type == "error":  # type: ignore[attr-defined]
            self.complaints.append(message.text)  # type: ignore[attr-defined]

    def pictures(self) -> list[Response]:
        return [
            each for each in self.answers if "/iiif/" in each.url and "info.json" not in each.url
        ]

    def tiers(self) -> Counter[str]:
        return Counter(each.headers.get("x-served-from", "") for each in self.pictures())

    def open(self, name: str) -> None:
        self.page.get_by_role("link", name=name).click()
        self.page.wait_for_selector("#viewer[open] canvas")
        self.settle()

    def settle(self) -> None:
        """Until no tile has come for half a second."""
        before = -1
        while before != len(self.answers):
            before = len(self.answers)
            self.page.wait_for_timeout(600)
            self.page.wait_for_load_state("networkidle")

    def wheel_in(self, steps: int) -> None:
        box = self.page.locator("#stage").bounding_box()
        assert box
        self.page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] * 0.45)
        for _ in range(steps):
            self.page.mouse.wheel(0, -240)
            self.page.wait_for_timeout(250)
        self.settle()

    def shot(self, name: str) -> Image.Image:
        SHOTS.mkdir(parents=True, exist_ok=True)
        # caret="initial": hiding it would inject a style, which the page's policy refuses
        body = self.page.screenshot(path=SHOTS / name, caret="initial")
        return Image.open(BytesIO(body)).convert("RGB")


def test_zooming_by_wheel_shows_the_picture_through_at_least_four_tiers(
    server: ServeProcess, browser: Browser
) -> None:
    tiers: Counter[str] = Counter()
    asked: list[Response] = []
    for name, steps in (("cold", 12), ("warm", 4)):  # nothing is cached in either browser
        visit = Visit(browser, server)
        visit.shot(f"{name}-collection.png")
        visit.open("fractal")
        overview = visit.shot(f"{name}-overview.png")
        visit.wheel_in(steps)
        close = visit.shot(f"{name}-close.png")
        _assert_shows_a_picture(overview)
        _assert_shows_a_picture(close)
        assert visit.complaints == []
        tiers += visit.tiers()
        asked += visit.pictures()
        visit.page.get_by_role("button", name="Details").click()
        assert "memory" in visit.page.inner_text("#tiers") or name == "cold"
        visit.context.close()
    assert {each.status for each in asked} == {200}, [e.url for e in asked if e.status != 200]
    deepest = max(_scale(each.url) for each in asked if "/full/" not in each.url)
    assert deepest == 1.0, f"never asked for a tile at full size: {deepest}"
    assert len(tiers) >= 4, tiers


def _scale(url: str) -> float:
    """Pixels delivered for each pixel of the region, along the width."""
    region, size = url.split("/")[-4:-2]
    return int(size.split(",")[0]) / int(region.split(",")[2])


def _assert_shows_a_picture(shot: Image.Image) -> None:
    """The viewer's area is not blank and not one flat colour anywhere near its middle."""
    width, height = shot.size
    middle = shot.crop((width // 4, height // 4, 3 * width // 4, 3 * height // 4))
    spread = max(ImageStat.Stat(middle).stddev)
    assert spread > 8, f"the middle of the viewer is flat (standard deviation {spread:.1f})"


def test_the_page_filters_links_and_closes_by_keyboard(
    server: ServeProcess, browser: Browser
) -> None:
    visit = Visit(browser, server)
    page = visit.page
    expect(page.locator(".card")).to_have_count(3)
    page.get_by_role("searchbox").fill("sheet")
    expect(page.locator(".card:visible")).to_have_count(1)
    page.locator(".card:visible a").press("Enter")
    visit.settle()
    assert page.url.endswith("#1/1/album%252Fsheet")
    expect(page.locator("#viewer-facts")).to_contain_text("1501 × 1003")
    page.get_by_role("button", name="Details").click()
    view = page.input_value("#address-view")
    answer = page.request.get(view)
    assert answer.status == 200, view
    assert answer.headers["content-type"] == "image/jpeg"
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page).to_have_url(f"{server.public}/")  # the history is changed a moment later
    page.goto(f"{server.public}/#1/1/tiny")
    visit.settle()
    expect(page.locator("#viewer-facts")).to_contain_text("60 × 40")
    assert visit.complaints == []
    visit.context.close()


def test_a_link_to_a_missing_picture_shows_an_error(server: ServeProcess, browser: Browser) -> None:
    visit = Visit(browser, server)
    visit.page.goto(f"{server.public}/#1/1/missing")
    expect(visit.page.locator("#viewer-problem")).to_contain_text("cannot be shown")
    visit.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_with_its_background(
    server: ServeProcess, browser: Browser, scheme: str
) -> None:
    visit = Visit(browser, server, color_scheme=scheme)
    visit.shot(f"{scheme}-collection.png")
    for selector in ("h1", ".name", ".size", ".tools label", ".foot p"):
        ratio = visit.page.locator(selector).first.evaluate(CONTRAST)
        assert ratio >= 4.5, f"{selector} in {scheme}: {ratio:.1f}"
    visit.context.close()


CONTRAST = """element => {
  const part = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = text => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  let ground = element;
  while (/, 0\\)$/.test(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
  const a = light(getComputedStyle(element).color);
  const b = light(getComputedStyle(ground).backgroundColor);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


def test_the_admin_page_asks_for_a_key_and_shows_assets_queue_caches_and_failed_jobs(
    browser: Browser, server: ServeProcess
) -> None:
    made = run_command("keys", "create", "--admin", "--data", server.data, "--json").json
    context = browser.new_context(
        http_credentials={"username": made["id"], "password": made["secret"]}
    )
    page = context.new_page()
    answer = page.goto(f"{server.private}/admin")
    assert answer is not None
    assert answer.status == 200
    for heading in ("Assets", "Queue", "Disk caches of this host", "Failed jobs"):
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    page.screenshot(path=SHOTS / "admin.png")
    context.close()
