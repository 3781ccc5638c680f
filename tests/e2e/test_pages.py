"""The pages for people, and viewers of other projects, in a browser that reaches no other host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, expect

from tests.e2e.conftest import run_command
from tests.support.browsing import Visit, axe_faults, browser
from tests.support.serve_process import ServeProcess, assert_log_clean, fetch, run_server

__all__ = ["browser"]

pytestmark = pytest.mark.timeout(900)
PAGES = 50
SIZE = (1200, 1500)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    home = tmp_path_factory.mktemp("pages")
    for name in ("pictures", "incoming", "active"):
        (home / name).mkdir()
    for number in range(1, PAGES + 1):
        write_page(home / "pictures" / f"page-{number:02d}.jpg", number)
    env = {
        "ORCHESTRATOR_UPLOADS__BACKEND": "local",
        "ORCHESTRATOR_UPLOADS__SECRETS": json.dumps(["a-secret-for-publishing"]),
        "ORCHESTRATOR_UPLOADS__INCOMING_FOLDER": str(home / "incoming"),
        "ORCHESTRATOR_UPLOADS__ACTIVE_FOLDER": str(home / "active"),
        "ORCHESTRATOR_JOBS__MAX_ATTEMPTS": "1",  # a job that fails is soon a failed one
    }
    with run_server(home / "pictures", data=home / "data", env=env, workers=2) as server:
        server.wait_converted(expected=PAGES)
        yield server
    assert_log_clean(server.log())


def write_page(path: Path, number: int) -> None:
    """A page with its number, in a colour of its own, with fine lines that zooming shows."""
    picture = Image.new("RGB", SIZE, (40 + 4 * number, 90, 250 - 4 * number))
    draw = ImageDraw.Draw(picture)
    for x in range(0, SIZE[0], 24):
        draw.line((x, 0, SIZE[0] - x, SIZE[1]), fill=(x % 256, 200, 30), width=3)
    draw.text((200, 400), str(number), fill="white", font_size=600)
    picture.save(path, quality=90)


def test_a_person_signs_in_to_the_admin_page_and_retries_a_failed_job(
    browser: Browser, server: ServeProcess
) -> None:
    made = run_command("keys", "create", "--admin", "--data", server.data, "--json").json
    sign_in = {"username": made["id"], "password": made["secret"]}
    visit = Visit(browser)
    posted = visit.page.request.post(
        f"{server.private}/customers/1/queue",
        data=[{"id": "<b>nothing</b>", "space": 1, "origin": "https://example.invalid/x.jpg"}],
        headers={"Authorization": f"Bearer {made['token']}"},
    )
    assert posted.status == 201, posted.text()
    visit.close()
    for scheme in ("light", "dark"):
        visit = Visit(browser, http_credentials=sign_in, color_scheme=scheme)
        page = visit.page
        page.goto(f"{server.private}/admin")
        button = page.get_by_role("button", name="Retry job")
        for _ in range(60):  # until the job has failed
            if button.count():
                break
            page.wait_for_timeout(500)
            page.reload()
        for heading in (
            "Requests",
            "Disk caches of this host",
            "Queue",
            "Processes",
            "Assets",
            "Latest batches",
            "Failed jobs",
        ):
            expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
        expect(page.get_by_role("table").filter(has_text="housekeeping")).to_contain_text("serve")
        fetch(f"{server.public}/iiif/3/1%2F1%2Ftiny/info.json")
        with page.expect_response(lambda answer: answer.url.endswith("/admin/live")):
            pass  # the page refreshes its figures by itself
        visit.shot(f"admin-{scheme}.png")
        assert axe_faults(page) == []
        assert visit.failures() == []
        assert visit.complaints == []
        with page.expect_navigation():
            button.first.click()
        assert page.url == f"{server.private}/admin#failed"
        visit.close()
