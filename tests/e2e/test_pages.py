"""The pages for people, and viewers of other projects, in a browser that reaches no other host."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, expect

from orchestrator.sign_in.password_check import hash_password
from tests.e2e.conftest import run_command
from tests.support.browsing import Visit, assert_shows_a_picture, axe_faults, browser
from tests.support.http_server import respond, run_http_server
from tests.support.serve_process import ServeProcess, assert_log_clean, fetch, run_server

__all__ = ["browser"]

pytestmark = pytest.mark.timeout(900)
PAGES = 50
SIZE = (1200, 1500)
SECRET = "zz-secret"
"""A restricted picture: the public sees it with at most 200 pixels."""
VIEWERS = Path(__file__).parents[1] / "viewers" / "node_modules"
HOSTS = {
    "clover": """<script src="/@samvera/clover-iiif/dist/web-components/index.umd.js"></script>
        <clover-viewer iiif-content="MANIFEST"></clover-viewer>""",
    "tify": """<link rel="stylesheet" href="/tify/dist/tify.css">
        <div id="viewer" style="height: 680px"></div>
        <script type="module">import Tify from "/tify/dist/tify.js";
        new Tify({ container: "#viewer", manifestUrl: "MANIFEST" });</script>""",
    "universalviewer": """<link rel="stylesheet" href="/universalviewer/dist/uv.css">
        <div id="viewer" class="uv" style="width: 980px; height: 680px"></div>
        <script src="/universalviewer/dist/umd/UV.js"></script>
        <script>UV.init("viewer", { manifest: "MANIFEST" });</script>""",
}
BUTTONS = {
    "mirador": ("Next item", "Zoom in"),
    "clover": ("Next", "Zoom in"),
    "tify": ("Next page", "Zoom in"),
    "universalviewer": ("Next Image", "Zoom In"),
}
"""The names of the buttons for the next page and for zooming in."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    home = tmp_path_factory.mktemp("pages")
    for name in ("pictures", "incoming", "active"):
        (home / name).mkdir()
    for number in range(1, PAGES + 1):
        write_page(home / "pictures" / f"page-{number:02d}.jpg", number)
    write_page(home / "pictures" / f"{SECRET}.jpg", PAGES + 1)
    services = [{"name": "staff", "roles": ["staff"], "label": "Staff"}]
    users = [{"name": "ada", "password": hash_password("right horse"), "roles": ["staff"]}]
    env = {
        "ORCHESTRATOR_UPLOADS__BACKEND": "local",
        "ORCHESTRATOR_UPLOADS__SECRETS": json.dumps(["a-secret-for-publishing"]),
        "ORCHESTRATOR_UPLOADS__INCOMING_FOLDER": str(home / "incoming"),
        "ORCHESTRATOR_UPLOADS__ACTIVE_FOLDER": str(home / "active"),
        "ORCHESTRATOR_AUTH__SERVICES": json.dumps(services),
        "ORCHESTRATOR_AUTH__USERS": json.dumps(users),
        "ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original",
        "ORCHESTRATOR_JOBS__MAX_ATTEMPTS": "1",  # a job that fails is soon a failed one
    }
    with run_server(home / "pictures", data=home / "data", env=env, workers=2) as server:
        server.wait_converted(expected=PAGES + 1)
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


@pytest.fixture(scope="module")
def key(server: ServeProcess) -> dict[str, str]:
    made: dict[str, str] = run_command(
        "keys", "create", "--admin", "--data", server.data, "--json"
    ).json
    return made


@pytest.fixture(scope="module")
def restricted(server: ServeProcess, key: dict[str, str]) -> None:
    change = {"roles": ["staff"], "maxUnauthorised": 200}
    address = f"{server.private}/customers/1/spaces/1/images/{SECRET}"
    assert send("PATCH", address, change, key) == 200


@pytest.fixture(scope="module")
def book(server: ServeProcess, key: dict[str, str], restricted: None) -> str:
    """The address of a manifest of all pictures: the result of a named query."""
    query = {"name": "book", "template": "space=p1"}
    assert send("POST", f"{server.private}/customers/1/namedQueries", query, key) == 201
    return f"{server.public}/iiif-resource/v3/1/book/1"


def send(method: str, url: str, document: dict[str, object], key: dict[str, str]) -> int:
    headers = {"Authorization": f"Bearer {key['token']}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        url, data=json.dumps(document).encode(), method=method, headers=headers
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return int(answer.status)


@pytest.fixture(scope="module")
def host(book: str) -> Iterator[str]:
    """A web site with the viewers of other projects."""

    def handle(request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0].lstrip("/")
        file = VIEWERS / path
        if path in HOSTS:
            page = "<!doctype html><meta charset=utf-8><body>" + HOSTS[path]
            respond(request, "text/html", page.replace("MANIFEST", book).encode())
        elif file.is_file():
            media_type = {".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png"}
            respond(request, media_type.get(file.suffix, "text/javascript"), file.read_bytes())
        else:  # the icon of the site, and an address that Universal Viewer forms by mistake
            respond(request, "image/png", b"")

    with run_http_server(handle) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("viewer", BUTTONS)
def test_a_viewer_pages_through_a_manifest_of_50_images_and_zooms_in(
    server: ServeProcess, browser: Browser, host: str, book: str, viewer: str
) -> None:
    next_page, zoom_in = BUTTONS[viewer]
    own = f"{server.public}/view?manifest={quote(book, safe='')}"
    visit = Visit(browser, own if viewer == "mirador" else f"{host}/{viewer}")
    page = visit.page
    page.wait_for_selector("canvas")
    visit.settle()
    assert_shows_a_picture(visit.shot(f"{viewer}-first.png"))
    for number in (2, 3, 4):
        page.get_by_role("button", name=next_page, exact=True).first.click()
        visit.settle()
        wanted = f"page-{number:02d}/info.json"
        assert any(each.url.endswith(wanted) for each in visit.answers), wanted
    before = len(visit.answers)
    assert_shows_a_picture(visit.shot(f"{viewer}-fourth.png"))
    button = page.get_by_role("button", name=zoom_in, exact=True).first
    for _ in range(4):
        if button.is_enabled():  # some viewers end at full size
            button.click()
        page.wait_for_timeout(600)
    visit.settle()
    assert_shows_a_picture(visit.shot(f"{viewer}-close.png"))
    close = [each.url for each in visit.answers[before:] if "page-04/" in each.url]
    assert max(_scale(url) for url in close if "/full/" not in url) == 1.0
    assert visit.failures() == []
    assert visit.complaints == []
    if viewer == "mirador":
        assert axe_faults(page) == []
    visit.close()


def _scale(url: str) -> float:
    """Pixels delivered for each pixel of the region, along the width."""
    region, size = url.split("/")[-4:-2]
    return int(size.split(",")[0]) / int(region.split(",")[2])


def test_a_person_signs_in_to_mirador_and_sees_the_full_picture(
    server: ServeProcess, browser: Browser, restricted: None
) -> None:
    visit = Visit(browser, f"{server.public}/view?manifest=/iiif-manifest/1/1/{SECRET}")
    page = visit.page
    visit.settle()
    visit.shot("mirador-signed-out.png")
    log_in = page.get_by_role("button", name="Log in")
    with visit.context.expect_page() as opened:
        log_in.first.click()
    form = opened.value
    form.get_by_label("User name").fill("ada")
    form.get_by_label("Password").fill("right horse")
    assert axe_faults(form) == []
    form.get_by_role("button").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    visit.settle()
    for _ in range(4):
        page.get_by_role("button", name="Zoom in", exact=True).click()
        page.wait_for_timeout(300)
    visit.settle()
    assert_shows_a_picture(visit.shot("mirador-signed-in.png"))
    tiles = [
        each for each in visit.pictures() if f"{SECRET}/" in each.url and "/full/" not in each.url
    ]
    assert max(_scale(each.url) for each in tiles if each.status == 200) == 1.0
    # Before the sign-in, Mirador asks for tiles that are larger than the public may see.
    others = [each for each in visit.complaints if "401" not in each and "Tile %s" not in each]
    assert others == []
    visit.close()


def test_axe_finds_no_fault_in_the_page_for_uploads(server: ServeProcess, browser: Browser) -> None:
    visit = Visit(browser, f"{server.public}/")
    visit.page.get_by_role("link", name="Upload pictures").click()
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Upload pictures")
    assert axe_faults(visit.page) == []
    assert visit.failures() == []
    visit.close()


def test_a_person_signs_in_to_the_admin_page_and_retries_a_failed_job(
    browser: Browser, server: ServeProcess, key: dict[str, str]
) -> None:
    sign_in = {"username": key["id"], "password": key["secret"]}
    visit = Visit(browser)
    posted = visit.page.request.post(
        f"{server.private}/customers/1/queue",
        data=[{"id": "<b>nothing</b>", "space": 1, "origin": "https://example.invalid/x.jpg"}],
        headers={"Authorization": f"Bearer {key['token']}"},
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
