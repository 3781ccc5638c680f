"""A person with a browser drops a picture on the page for uploads, crops and publishes it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.support import pictures
from tests.support.browsing import SHOTS, axe_faults, browser
from tests.support.patience import patience
from tests.support.serve_process import ServeProcess, assert_log_clean, fetch, run_server

__all__ = ["browser"]

pytestmark = pytest.mark.timeout(900)
SECRET = "a-secret-for-publishing"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    home = tmp_path_factory.mktemp("uploads-page")
    for name in ("incoming", "active"):
        (home / name).mkdir()
    uploads = {
        "backend": "local",
        "secrets": json.dumps([SECRET]),
        "incoming_folder": str(home / "incoming"),
        "active_folder": str(home / "active"),
        "route_prefix": "/photos",
        "max_bytes": "20MB",
    }
    env = {f"ORCHESTRATOR_UPLOADS__{name.upper()}": value for name, value in uploads.items()}
    with run_server(data=home / "data", env=env) as server:
        yield server
    assert_log_clean(server.log())


@pytest.fixture
def page(server: ServeProcess, browser: Browser) -> Iterator[Page]:
    """The page; what the browser complains about fails the test."""
    context = browser.new_context(viewport={"width": 1024, "height": 760})
    page = context.new_page()
    page.set_default_timeout(60_000 * patience())
    expect.set_options(timeout=60_000 * patience())
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    page.goto(f"{server.public}/photos/uploads")
    yield page
    context.close()
    # The browser itself reports each answer of 400 and above, which some tests provoke.
    assert [each for each in complaints if "status of 4" not in each] == []


def shot(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / name, caret="initial", full_page=True)


def test_a_picture_is_dropped_cropped_and_published(
    server: ServeProcess, page: Page, tmp_path: Path
) -> None:
    photo = pictures.jpeg(tmp_path / "photo.jpg", 1200, 900)
    shot(page, "uploads-empty.png")
    assert axe_faults(page) == []
    # As a person drops it: the browser gets a DragEvent with the file.
    body = list(photo.read_bytes())
    transfer = page.evaluate_handle(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "photo.jpg",
                { type: "image/jpeg" }));
            return transfer;
        }""",
        body,
    )
    page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer})
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    item = page.locator(".upload")
    expect(item.locator(".state")).to_have_text("1200 × 900, not published")
    item.get_by_role("button", name="Publish").click()
    expect(item.locator(".state")).to_contain_text("Enter the secret")
    page.get_by_label("Secret for publishing").fill(SECRET)
    item.get_by_role("button", name="Crop").click()
    page.wait_for_selector(".cropper-crop-box")
    # All are filled, also the one that has the focus.
    assert all(page.input_value(f"#crop-{name}") for name in ("x", "y", "width", "height"))
    box = page.locator(".cropper-point.point-se").bounding_box()
    assert box
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 60, box["y"] - 60, steps=5)
    page.mouse.up()
    assert int(page.input_value("#crop-width")) < 960
    for name, value in (("x", 100), ("y", 60), ("width", 600), ("height", 300)):
        page.fill(f"#crop-{name}", str(value))
        page.press(f"#crop-{name}", "Tab")
    shot(page, "uploads-crop.png")
    assert axe_faults(page) == []
    page.get_by_role("button", name="Use this part").click()
    expect(item.locator(".state")).to_contain_text("crop 600x300+100+60")
    item.get_by_role("button", name="Publish").click()
    expect(item.locator(".state")).to_contain_text("Published as")
    shot(page, "uploads-published.png")
    assert axe_faults(page) == []
    match = re.search(r"\d+_\d+\.jpg", item.locator(".state").inner_text())
    assert match
    version = fetch(f"{server.public}/photos/active/{match[0].replace('.', 'MI.')}").body
    assert Image.open(io.BytesIO(version)).size == (400, 200)
    for name in ("Picture", "Zoom", "IIIF information"):
        address = item.get_by_role("link", name=name).get_attribute("href")
        assert address
        assert fetch(server.public + urlsplit(address).path).status == 200


def test_what_is_no_picture_is_shown_as_refused(page: Page, tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("no picture")
    large = tmp_path / "large.jpg"
    with large.open("wb") as file:
        file.truncate(21_000_000)
    page.set_input_files("#files", [text, large])
    states = page.locator(".upload.failed .state")
    expect(states).to_have_count(2)
    assert "too large" in states.nth(1).inner_text()
    page.get_by_role("button", name="Cancel: notes.jpg").click()
    expect(page.locator(".upload")).to_have_count(1)


def test_the_page_works_with_the_keyboard_and_in_a_narrow_window(
    page: Page, tmp_path: Path
) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    page.set_input_files("#files", [pictures.jpeg(tmp_path / "a.jpg", 300, 200)])
    expect(page.locator(".upload .state")).to_contain_text("not published")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Crop: a.jpg").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".cropper-crop-box")
    page.keyboard.press("Escape")
    expect(page.locator("#cropper")).not_to_be_visible()
    assert page.evaluate("document.activeElement.className") == "crop"
    shot(page, "uploads-narrow.png")
