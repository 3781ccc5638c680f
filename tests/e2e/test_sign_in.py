"""Users sign in, and viewers get tokens: pages, cookies, origins, and a real provider of OpenID
Connect.
"""

from __future__ import annotations

import io
import json
import shutil
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from PIL import Image
from playwright.async_api import async_playwright

from orchestrator.routing.access_tokens import SignedTokens
from orchestrator.sign_in.password_check import hash_password
from tests.e2e.conftest import run_command
from tests.support import pictures
from tests.support.browsing import ARGUMENTS
from tests.support.http_server import respond, run_http_server
from tests.support.openid_provider import run_provider
from tests.support.patience import patience
from tests.support.serve_process import ServeProcess, assert_log_clean, fetch, run_server
from tests.support.sign_in_client import SignInClient

VIEWER, STRANGER = "https://viewer.example.org", "https://stranger.example.net"
TRUSTED = "https://trusted.example.org"
IMAGE = "/iiif/3/1%2F1%2Fsecret/0,0,256,256/256,/0/default.jpg"
INFO = "/iiif/3/1%2F1%2Fsecret/info.json"
PROBE = "/auth/v2/probe/1/1/secret"
STAFF = "/auth/v2/access/1/staff"
LOGIN = {"name": "ada", "password": "right horse", "origin": VIEWER}
SECRET = "a secret of at least thirty-two bytes"
PROVIDER_USERS = (
    {"sub": "grace", "roles": ["library-staff"], "preferred_username": "grace@example.org"},
    {"sub": "mallory", "roles": ["gardeners"]},
)


def access_settings(issuer: str) -> dict[str, str]:
    services: list[dict[str, Any]] = [
        {"name": "staff", "roles": ["staff"], "label": "Staff <of the library>"},
        {"name": "campus", "kind": "openid", "roles": ["staff"], "label": "University"},
        {"name": "terms", "kind": "clickthrough", "roles": ["reader"], "label": "Terms"},
        {
            "name": "room",
            "kind": "kiosk",
            "roles": ["reader"],
            "label": "Reading room",
            "networks": ["127.0.0.0/8"],
        },
        {
            "name": "attic",
            "kind": "kiosk",
            "roles": ["reader"],
            "label": "Attic",
            "networks": ["192.0.2.0/24"],
        },
        {"name": "portal", "kind": "external", "roles": ["reader"], "label": "Portal"},
        {"name": "other", "roles": ["staff"], "label": "Another customer", "customer": 2},
    ]
    users = [{"name": "ada", "password": hash_password("right horse"), "roles": ["staff"]}]
    values = {
        "SERVICES": services,
        "USERS": users,
        "VIEWER_ORIGINS": [TRUSTED],
        "OPENID_ROLES": {"library-staff": ["staff"]},
    }
    return {
        **{f"ORCHESTRATOR_AUTH__{name}": json.dumps(value) for name, value in values.items()},
        "ORCHESTRATOR_AUTH__OPENID_ISSUER": issuer,
        "ORCHESTRATOR_AUTH__OPENID_CLIENT_ID": "images",
        "ORCHESTRATOR_AUTH__OPENID_CLIENT_SECRET": "secret of the client",
        "ORCHESTRATOR_AUTH__TOKEN_SECRET": SECRET,
        "ORCHESTRATOR_AUTH__PASSWORD_ATTEMPTS": "3",
        "ORCHESTRATOR_SERVER__TRUSTED_PROXIES": "127.0.0.1",
    }


class Restricting:
    """Changes who may see the image, and waits until that is in force."""

    def __init__(self, server: ServeProcess, key: str) -> None:
        self._server = server
        self._key = key

    def __call__(self, roles: list[str], edge: int) -> None:
        fields = {"roles": roles, "maxUnauthorised": edge}
        request = urllib.request.Request(
            f"{self._server.private}/customers/1/spaces/1/images/secret",
            data=json.dumps(fields).encode(),
            method="PATCH",
            headers={"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200
        is_open, has_substitute = not roles and edge < 0, edge > 0
        deadline = time.monotonic() + 20 * patience()
        while time.monotonic() < deadline:
            probe = fetch(self._server.public + PROBE).json
            if (probe["status"] == 200, "substitute" in probe) == (is_open, has_substitute):
                return
            time.sleep(0.02)
        raise AssertionError(f"still {probe}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    folder = tmp_path_factory.mktemp("secrets")
    pictures.jpeg(folder / "secret.jpg", 900, 600)
    with (
        run_provider(*PROVIDER_USERS) as issuer,
        run_server(folder, env=access_settings(issuer)) as server,
    ):
        server.wait_converted()
        yield server
        assert_log_clean(server.log())


@pytest.fixture(scope="module")
def restrict(server: ServeProcess) -> Restricting:
    made = run_command("keys", "create", "1", "--json", "--data", server.data)
    return Restricting(server, made.json["token"])


@pytest.fixture(scope="module", autouse=True)
def restricted(restrict: Restricting) -> None:
    restrict(["staff", "reader"], 0)


@pytest.fixture
async def browser(server: ServeProcess) -> AsyncIterator[SignInClient]:
    async with SignInClient(server.public) as browser:
        yield browser


async def ask_for_token(browser: SignInClient, origin: str, version: int = 2) -> Any:
    root = "/auth/v2/access/1" if version == 2 else "/auth/1"
    answer = await browser.get(f"{root}/token?messageId=m%22%3C&origin={origin}")
    assert answer.status == 200
    assert f'data-origin="{origin}"' in answer.text
    assert f"frame-ancestors {origin}" in answer.headers["Content-Security-Policy"]
    message = answer.message
    assert message["messageId"] == 'm"<'
    return message


async def test_a_viewer_of_version_2_leads_its_user_from_the_probe_to_the_image(
    browser: SignInClient,
) -> None:
    info = await browser.get(INFO)
    assert info.status == 401
    assert (await browser.get(PROBE)).json["status"] == 401
    assert (await browser.get(IMAGE)).status == 401

    probe = info.json["service"][0]
    assert urlsplit(probe["id"]).path == PROBE
    access = probe["service"][0]
    page = await browser.get(f"{access['id']}?origin={VIEWER}")
    assert page.status == 200
    assert VIEWER in page.text
    assert "Staff &lt;of the library&gt;" in page.text
    done = await browser.post(access["id"], LOGIN)
    assert done.status == 200
    assert "close_window.js" in done.text

    token = await ask_for_token(browser, VIEWER)
    assert token["type"] == "AuthAccessToken2"
    assert 3500 < token["expiresIn"] <= 3600
    async with SignInClient(browser._base) as viewer:  # a request of a script has no cookies
        bearer = {"Authorization": f"Bearer {token['accessToken']}"}
        assert (await viewer.get(PROBE, **bearer)).json["status"] == 200
        whole = await viewer.get(INFO, **bearer)
        assert (whole.status, whole.json["width"]) == (200, 900)
        assert whole.json["service"][0]["type"] == "AuthProbeService2"
        assert (await viewer.get(IMAGE, **bearer)).status == 401
    assert (await browser.get(IMAGE)).status == 200

    signed_out = await browser.get(f"{STAFF}/logout")
    assert signed_out.status == 200
    assert browser.cookie_names() == set()
    assert (await browser.get(IMAGE)).status == 401
    assert (await ask_for_token(browser, VIEWER))["profile"] == "missingAspect"


async def test_a_viewer_of_version_1_finds_its_services_in_the_body_of_the_401(
    browser: SignInClient,
) -> None:
    for version, context in ((2, str), (3, list)):
        info = (await browser.get(f"/iiif/{version}/1%2F1%2Fsecret/info.json")).json
        assert isinstance(info["@context"], context)
        assert not {"width", "height", "sizes", "tiles", "maxWidth"} & set(info)
        assert (info["status"], bool(info["error"])) == (401, True)
        older = [each for each in info["service"] if "@type" in each]
        assert [each["profile"].rpartition("/")[2] for each in older] == [
            "login",
            "login",
            "clickthrough",
            "kiosk",
            "kiosk",
            "external",
        ]
    login = older[0]
    assert (await browser.post(login["@id"], LOGIN)).status == 200
    token = await ask_for_token(browser, VIEWER, version=1)
    assert set(token) == {"messageId", "accessToken", "expiresIn"}
    info = await browser.get(INFO, Authorization=f"Bearer {token['accessToken']}")
    assert info.json["width"] == 900
    direct = await browser.get("/auth/1/token")
    assert direct.headers["Content-Type"].startswith("application/json")
    assert set(direct.json) == {"accessToken", "expiresIn"}
    assert (await browser.get("/auth/1/staff/logout")).status == 200
    refused = await browser.get("/auth/1/token")
    assert (refused.status, refused.json["error"]) == (401, "missingCredentials")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_cookie_is_for_every_site_on_https_and_for_one_on_http(
    browser: SignInClient, scheme: str
) -> None:
    [text] = (await browser.post(STAFF, LOGIN, X_Forwarded_Proto=scheme)).cookies
    name, _, rest = text.partition("=")
    assert name == "orchestrator-token-1-staff"
    attributes = {each.strip() for each in rest.split(";")}
    assert {"HttpOnly", "Path=/", "Max-Age=28800"} <= attributes
    wanted = {"SameSite=None", "Secure"} if scheme == "https" else {"SameSite=Lax"}
    assert {each for each in attributes if each == "Secure" or "SameSite" in each} == wanted


async def test_a_token_is_posted_only_to_a_viewer_that_the_user_confirmed(
    browser: SignInClient,
) -> None:
    await browser.post(STAFF, LOGIN)
    for version, key, name in ((2, "profile", "invalidOrigin"), (1, "error", "invalidOrigin")):
        message = await ask_for_token(browser, STRANGER, version)
        assert message[key] == name
        assert "accessToken" not in message
    for origin in (VIEWER, TRUSTED, browser._base):
        assert "accessToken" in await ask_for_token(browser, origin)

    page = await browser.get(f"{STAFF}?origin={STRANGER}")
    assert STRANGER in page.text
    assert "signed in as <strong>ada</strong>" in page.text
    assert 'name="password"' not in page.text
    assert "accessToken" not in await ask_for_token(browser, STRANGER)  # looking confirms nothing
    await browser.post(STAFF, {"origin": STRANGER})
    for origin in (VIEWER, STRANGER):
        assert "accessToken" in await ask_for_token(browser, origin)


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "viewer.example.org",
        "javascript:alert(1)",
        "https://viewer.example.org/path",
        "https://user@viewer.example.org",
        'https://a"onload="x',
        "https://viewer.example.org;script-src",
        "https://" + "a" * 300,
    ],
)
async def test_a_malformed_origin_is_refused_everywhere(browser: SignInClient, origin: str) -> None:
    text = quote(origin, safe="")
    for path in (
        f"/auth/v2/access/1/token?messageId=1&origin={text}",
        f"/auth/1/token?messageId=1&origin={text}",
        f"{STAFF}?origin={text}",
    ):
        answer = await browser.get(path)
        assert answer.status == 400
        assert "data-message" not in answer.text
    assert (await browser.post(STAFF, LOGIN | {"origin": origin})).status == 400


@pytest.mark.parametrize("query", ["", "?messageId=1", f"?origin={VIEWER}"])
async def test_a_token_service_of_version_2_needs_a_viewer(
    browser: SignInClient, query: str
) -> None:
    assert (await browser.get(f"/auth/v2/access/1/token{query}")).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": STRANGER},
        {"Origin": "null"},
    ],
    ids=str,
)
async def test_a_form_of_another_site_signs_no_user_in_and_confirms_no_viewer(
    browser: SignInClient, headers: dict[str, str]
) -> None:
    assert (await browser.post(STAFF, LOGIN, **headers)).status == 403
    assert browser.cookie_names() == set()
    await browser.post(STAFF, LOGIN)
    assert (await browser.post(STAFF, {"origin": STRANGER}, **headers)).status == 403
    assert "accessToken" not in await ask_for_token(browser, STRANGER)


async def test_another_page_cannot_sign_a_user_out_unseen(browser: SignInClient) -> None:
    await browser.post(STAFF, LOGIN)
    for destination in ("image", "iframe", "empty"):
        answer = await browser.get(f"{STAFF}/logout", Sec_Fetch_Dest=destination)
        assert answer.status == 403
        assert answer.cookies == []
    assert (await browser.get(f"{STAFF}/logout", Sec_Fetch_Dest="document")).status == 200


async def test_a_wrong_password_gives_no_cookie_and_after_some_tries_a_pause(
    browser: SignInClient, server: ServeProcess
) -> None:
    stranger = {"X_Forwarded_For": "192.0.2.77"}
    wrong = LOGIN | {"password": "wrong"}
    first = await browser.post(STAFF, wrong, **stranger)
    assert (first.status, first.cookies) == (403, [])
    assert "The user name or the password is wrong" in first.text
    for _ in range(6):
        answer = await browser.post(STAFF, wrong, **stranger)
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert (await browser.post(STAFF, LOGIN, **stranger)).status == 429
    assert (await browser.post(STAFF, LOGIN)).status == 200
    assert server.log_events("sign-in refused")[0]["user"] == "ada"


async def test_every_answer_is_never_cached(browser: SignInClient) -> None:
    paths = [
        PROBE,
        "/auth/v2/probe/1/1/nothing",
        "/auth/v2/probe/1/1",
        STAFF,
        f"{STAFF}/logout",
        "/auth/v2/access/1/nothing",
        "/auth/1/staff?origin=x",
        "/auth/v2/access/1/token",
        f"/auth/v2/access/1/token?messageId=1&origin={VIEWER}",
        "/auth/1/token",
        "/auth/openid/callback",
        "/auth/v2/access/1/room",
        "/auth/v2/access/1/attic",
        "/auth/v2/access/1/portal",
    ]
    for path in paths:
        for accept in ("text/html", "application/json"):
            answer = await browser.get(path, Accept=accept)
            assert answer.headers["Cache-Control"] == "no-store", path
            assert "ETag" not in answer.headers
            assert answer.status < 500


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/auth/v2/access/1/other", 404),  # of another customer
        ("/auth/v2/access/2/other", 200),
        ("/auth/v2/access/1/portal", 404),
        ("/auth/v2/access/main/staff", 404),
        ("/auth/v2/probe/1/1/nothing", 404),
        ("/auth/v2/probe/1", 400),
    ],
)
async def test_addresses_that_name_no_service(
    browser: SignInClient, path: str, status: int
) -> None:
    assert (await browser.get(path)).status == status


async def test_terms_are_agreed_to_on_our_page_or_for_a_trusted_viewer_in_its_own(
    browser: SignInClient,
) -> None:
    terms = "/auth/v2/access/1/terms"
    page = await browser.get(f"{terms}?origin={VIEWER}")
    assert "I agree" in page.text
    assert browser.cookie_names() == set()
    assert (await browser.get(f"/auth/1/terms?origin={VIEWER}")).cookies == []
    await browser.post(terms, {"origin": VIEWER})
    assert "accessToken" in await ask_for_token(browser, VIEWER)
    assert (await browser.get(IMAGE)).status == 200
    async with SignInClient(browser._base) as other:
        assert (await other.get(f"/auth/1/terms?origin={TRUSTED}")).cookies != []
        assert "accessToken" in await ask_for_token(other, TRUSTED)
        assert "accessToken" not in await ask_for_token(other, VIEWER)


async def test_a_kiosk_gives_access_by_its_network_and_tokens_to_trusted_viewers(
    browser: SignInClient,
) -> None:
    for service, address in (("attic", "127.0.0.1"), ("room", "192.0.2.77")):
        path = f"/auth/v2/access/1/{service}?origin={TRUSTED}"
        outside = await browser.get(path, X_Forwarded_For=address)
        assert (outside.status, outside.cookies) == (403, [])
    await browser.get(f"/auth/v2/access/1/room?origin={VIEWER}")
    assert (await browser.get(IMAGE)).status == 200
    assert "accessToken" not in await ask_for_token(browser, VIEWER)
    assert "accessToken" in await ask_for_token(browser, TRUSTED)


async def test_a_cookie_of_another_program_gives_tokens_to_trusted_viewers(
    browser: SignInClient,
) -> None:
    made = SignedTokens(SECRET, "orchestrator-token").create(["reader"], 60)
    cookie = {"Cookie": f"orchestrator-token={made}"}
    for origin, profile in ((TRUSTED, None), (VIEWER, "invalidOrigin")):
        answer = await browser.get(f"/auth/v2/access/1/token?messageId=1&origin={origin}", **cookie)
        assert answer.message.get("profile") == profile


async def test_a_public_image_is_open_to_every_probe_and_a_limited_one_has_a_substitute(
    browser: SignInClient, restrict: Restricting
) -> None:
    try:
        restrict(["staff"], 300)
        probe = (await browser.get(PROBE)).json
        assert probe["status"] == 401
        substitute = fetch(probe["substitute"]["id"])
        assert Image.open(io.BytesIO(substitute.body)).size == (300, 200)
        info = (await browser.get(INFO)).json
        assert (info["maxWidth"], info["service"][0]["type"]) == (300, "AuthProbeService2")
        restrict([], -1)
        assert (await browser.get(PROBE)).json["status"] == 200
        assert "service" not in (await browser.get(INFO)).json
    finally:
        restrict(["staff", "reader"], 0)


async def sign_in_at_provider(browser: SignInClient, user: str, *, start: str = "") -> Any:
    """Begin on our page, sign in at the provider, and return to our address."""
    begun = await browser.post(start or "/auth/v2/access/1/campus", {"origin": VIEWER})
    assert begun.status == 303
    address = begun.headers["Location"]
    consent = await browser.post(address, {"sub": user} if user else {"action": "deny"})
    assert consent.status == 302, consent.text
    return address, consent.headers["Location"]


async def test_a_user_signs_in_at_an_openid_provider(browser: SignInClient) -> None:
    page = await browser.get(f"/auth/v2/access/1/campus?origin={VIEWER}")
    assert page.status == 200  # the user confirms the viewer first
    assert "form-action" not in page.headers["Content-Security-Policy"]
    address, back = await sign_in_at_provider(browser, "grace")
    query = {key: values[0] for key, values in parse_qs(urlsplit(address).query).items()}
    assert query["response_type"] == "code"
    assert query["code_challenge_method"] == "S256"
    assert query["redirect_uri"] == f"{browser._base}/auth/openid/callback"
    assert {"state", "nonce", "code_challenge"} <= set(query)

    done = await browser.get(back)
    assert done.status == 200, done.text
    assert browser.cookie_names() == {"orchestrator-token-1-campus"}
    assert (await browser.get(IMAGE)).status == 200
    assert "accessToken" in await ask_for_token(browser, VIEWER)
    assert (await browser.get(back)).status == 403  # once


async def test_a_trusted_viewer_leads_straight_to_the_provider(browser: SignInClient) -> None:
    begun = await browser.get(f"/auth/v2/access/1/campus?origin={TRUSTED}")
    assert begun.status == 303
    assert begun.headers["Cache-Control"] == "no-store"


async def test_a_user_without_a_mapped_role_gets_no_session(browser: SignInClient) -> None:
    _, back = await sign_in_at_provider(browser, "mallory")
    refused = await browser.get(back)
    assert refused.status == 403
    assert not any(name.startswith("orchestrator") for name in browser.cookie_names())


async def test_a_user_who_declines_at_the_provider_gets_no_session(browser: SignInClient) -> None:
    _, back = await sign_in_at_provider(browser, "")
    assert "error=access_denied" in back
    assert (await browser.get(back)).status in (400, 403)


async def test_a_return_from_the_provider_counts_only_in_the_browser_that_began(
    browser: SignInClient,
) -> None:
    _, back = await sign_in_at_provider(browser, "grace")
    async with SignInClient(browser._base) as victim:
        assert (await victim.get(back)).status == 403
        await victim.post("/auth/v2/access/1/campus", {"origin": VIEWER})  # its own state
        assert (await victim.get(back)).status == 403
        assert not any(name.startswith("orchestrator") for name in victim.cookie_names())
    state = parse_qs(urlsplit(back).query)["state"][0]
    changed = back.replace(state, state[:20] + "x" * 10)
    assert (await browser.get(changed)).status == 403


VIEWER_PAGE = b"""<!doctype html><title>Viewer</title><script>
window.messages = [];
window.addEventListener("message", (event) => {
  window.messages.push({ from: event.origin, data: event.data });
});
function begin(service) {
  const opened = window.open(service + "?origin=" + location.origin);
  return new Promise((done) => {
    const timer = setInterval(() => {
      if (opened.closed) { clearInterval(timer); done(true); }
    }, 50);
  });
}
function ask(service, origin) {
  const frame = document.createElement("iframe");
  frame.src = service + "?messageId=7&origin=" + origin;
  document.body.append(frame);
  return new Promise((done) => frame.addEventListener("load", done));
}
function show(address) {
  return new Promise((done) => {
    const image = new Image();
    image.onload = () => done(image.naturalWidth);
    image.onerror = () => done(0);
    image.src = address;
  });
}
</script>"""


async def test_a_browser_gives_the_token_to_the_viewer_and_to_no_other_page(
    server: ServeProcess,
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        respond(request, "text/html", VIEWER_PAGE)

    token = f"{server.public}/auth/v2/access/1/token"
    with run_http_server(answer) as port, run_http_server(answer) as other_port:
        viewer, other = (f"http://127.0.0.1:{number}" for number in (port, other_port))
        async with async_playwright() as playwright:
            program = shutil.which("chromium")
            chromium = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
            page = await chromium.new_page()
            page.set_default_timeout(20_000 * patience())
            await page.goto(viewer)
            assert await page.evaluate(f"show('{server.public}{IMAGE}')") == 0
            async with page.expect_popup() as opening:
                await page.evaluate(f"void (window.closing = begin('{server.public}{STAFF}'))")
            window = await opening.value
            await window.get_by_label("User name").fill("ada")
            assert (await Axe().run(window)).response["violations"] == []
            await window.get_by_label("Password").fill("right horse")
            await window.get_by_role("button", name="Sign in").click()
            assert await page.evaluate("window.closing")  # the page closes its window

            await page.evaluate(f"ask('{token}', location.origin)")
            await page.wait_for_function("window.messages.length")
            [message] = await page.evaluate("window.messages")
            assert message["from"] == server.public
            assert message["data"]["messageId"] == "7"
            assert message["data"]["type"] == "AuthAccessToken2"
            assert await page.evaluate(f"show('{server.public}{IMAGE}')") == 256

            await page.goto(other)
            await page.evaluate(f"ask('{token}', '{viewer}')")  # of which it is not
            await page.evaluate(f"ask('{token}', location.origin)")
            await page.wait_for_function("window.messages.length")
            [message] = await page.evaluate("window.messages")
            assert message["data"]["profile"] == "invalidOrigin"
            await chromium.close()
