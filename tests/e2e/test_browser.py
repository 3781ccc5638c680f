"""A person with a browser opens the collection and zooms into a large picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Response, expect

from tests.support.browsing import (
    Visit,
    assert_shows_a_picture,
    axe_faults,
    browser,
)
from tests.support.scenes import write_jpeg
from tests.support.serve_process import ServeProcess, assert_log_clean, run_server

__all__ = ["browser"]

pytestmark = pytest.mark.timeout(900)

EDGES = [6_000, pytest.param(12_000, marks=pytest.mark.soak)]
"""The long edge of the large picture. Zooming in on the smaller one passes the same tiers."""


@pytest.fixture(scope="module", params=EDGES)
def edge(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, edge: int) -> Iterator[ServeProcess]:
    home = tmp_path_factory.mktemp("browser")
    folder = home / "pictures"
    write_jpeg(folder / "fractal.jpg", edge, edge * 3 // 4, grain=3)
    write_jpeg(folder / "album" / "sheet.jpg", 1501, 1003)
    write_jpeg(folder / "tiny.jpg", 60, 40)
    with run_server(folder, data=home / "data") as server:
        server.wait_converted(expected=3)
        yield server
    assert_log_clean(server.log())


def test_zooming_by_wheel_shows_the_picture_through_at_least_four_tiers(
    server: ServeProcess, browser: Browser
) -> None:
    tiers: Counter[str] = Counter()
    asked: list[Response] = []
    for name, steps in (("cold", 13), ("warm", 4)):  # nothing is cached in either browser
        visit = Visit(browser, f"{server.public}/")
        visit.shot(f"{name}-collection.png")
        visit.page.get_by_role("link", name="fractal").click()
        visit.page.wait_for_selector("#stage canvas")
        visit.settle()
        overview = visit.shot(f"{name}-overview.png")
        visit.wheel_in("#stage", steps)
        close = visit.shot(f"{name}-close.png")
        assert_shows_a_picture(overview)
        assert_shows_a_picture(close)
        assert visit.complaints == []
        assert visit.failures() == []
        tiers += Counter(each.headers.get("x-served-from", "") for each in visit.pictures())
        asked += visit.pictures()
        assert "memory" in visit.page.inner_text("#tiers") or name == "cold"
        visit.close()
    assert {each.status for each in asked} == {200}, [e.url for e in asked if e.status != 200]
    deepest = max(_scale(each.url) for each in asked if "/full/" not in each.url)
    assert deepest == 1.0, f"never asked for a tile at full size: {deepest}"
    assert len(tiers) >= 4, tiers


def _scale(url: str) -> float:
    """Pixels delivered for each pixel of the region, along the width."""
    region, size = url.split("/")[-4:-2]
    return int(size.split(",")[0]) / int(region.split(",")[2])


def test_a_person_goes_through_the_pictures_with_the_keyboard(
    server: ServeProcess, browser: Browser
) -> None:
    visit = Visit(browser, f"{server.public}/")
    page = visit.page
    expect(page.locator(".card")).to_have_count(3)
    page.get_by_role("link", name="album/sheet").press("Enter")
    page.wait_for_selector("#stage canvas")
    visit.settle()
    assert page.url.endswith("/view/1/1/album%2Fsheet")
    expect(page.locator("#facts")).to_contain_text("1501 × 1003")
    before = page.get_attribute("#view-link", "href")
    page.get_by_role("button", name="Zoom in").press("Enter")
    expect(page.locator("#view-link")).not_to_have_attribute("href", before or "")
    view = page.get_attribute("#view-link", "href")
    assert view
    answer = page.request.get(view)
    assert answer.status == 200, view
    assert answer.headers["content-type"] == "image/jpeg"
    for name in ("fractal", "tiny"):
        page.get_by_role("link", name="Next").press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
    assert page.get_by_role("link", name="Next").count() == 0
    page.get_by_role("link", name="Pictures").press("Enter")
    expect(page).to_have_url(f"{server.public}/")
    page.goto(f"{server.public}/#1/1/album%252Fsheet")  # as addresses were in an earlier release
    expect(page).to_have_url(f"{server.public}/view/1/1/album%2Fsheet")
    assert visit.complaints == []
    visit.close()


def test_without_scripts_each_picture_is_shown_with_its_addresses(
    server: ServeProcess, browser: Browser, edge: int
) -> None:
    visit = Visit(browser, f"{server.public}/", java_script_enabled=False)
    visit.page.get_by_role("link", name="fractal").click()
    visit.page.wait_for_load_state("networkidle")
    assert_shows_a_picture(visit.shot("view-without-scripts.png"))
    info = visit.page.get_by_role("link", name="info.json").get_attribute("href")
    assert info
    assert visit.page.request.get(info).json()["width"] == edge
    assert visit.failures() == []
    visit.close()


def test_a_link_to_a_missing_picture_shows_an_error(server: ServeProcess, browser: Browser) -> None:
    visit = Visit(browser, f"{server.public}/view/1/1/missing")
    assert visit.answers[0].status == 404
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Not found")
    assert axe_faults(visit.page) == []
    visit.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_in_the_collection_and_the_viewer(
    server: ServeProcess, browser: Browser, scheme: str
) -> None:
    visit = Visit(browser, f"{server.public}/", color_scheme=scheme)
    visit.shot(f"{scheme}-collection.png")
    assert axe_faults(visit.page) == []
    visit.goto(f"{server.public}/view/1/1/tiny")
    visit.page.wait_for_selector("#stage canvas")
    visit.settle()
    visit.shot(f"{scheme}-view.png")
    assert axe_faults(visit.page) == []
    assert visit.complaints == []
    visit.close()
