"""HTTP origins that need a login, conditional reads, and examining an origin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import encode_basic_auth, web

from orchestrator.origins.reader_types import FetchedFile, NotModified
from orchestrator.settings import Database
from tests.integration.origins.conftest import (
    CUSTOMER,
    HTML,
    PICTURE,
    CustomerOrigins,
    customer_origins,
)
from tests.support.origins import OriginServer, origin_server
from tests.support.serve_process import free_port

LOGIN = ("archivist", "pässword: 日本")
CREDENTIALS = {"user": LOGIN[0], "password": LOGIN[1]}


@pytest.fixture
async def origin() -> AsyncIterator[OriginServer]:
    async with origin_server() as server:
        server.files |= {"/picture": PICTURE, "/page": HTML, "/large": b"\xff" * 2_000_001}
        for path in server.files:
            server.logins[path] = LOGIN
        yield server


async def test_a_login_with_any_characters_opens_the_origin(
    origins: CustomerOrigins, origin: OriginServer
) -> None:
    await origins.add("^http", "basic-http-authentication", CREDENTIALS)
    fetched = await origins.fetch(origin.url("/picture"))
    assert fetched.path.read_bytes() == PICTURE


async def test_another_http_server_accepts_the_login(origins: CustomerOrigins) -> None:
    async def handle(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != encode_basic_auth(*LOGIN):
            return web.Response(status=403)
        return web.Response(body=PICTURE, content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/picture", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        await origins.add("^http", "basic-http-auth", CREDENTIALS)
        assert (await origins.fetch(f"http://127.0.0.1:{port}/picture")).bytes == len(PICTURE)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/none", "origin_not_found"),
        ("/page", "not_an_image"),
        ("/large", "too_large"),
        ("/hang", "origin_timeout"),
        ("/stall", "origin_timeout"),
        ("/status/401", "origin_refused"),
        ("/status/403", "origin_refused"),
        ("/status/503", "origin_unavailable"),
        ("/hops/9", "origin_redirects"),
    ],
)
async def test_each_failure_has_its_code(
    origins: CustomerOrigins, origin: OriginServer, path: str, code: str
) -> None:
    await origins.add("^http", "basic-http-auth", CREDENTIALS)
    assert await origins.fault_code(origin.url(path)) == code


async def test_a_wrong_password_and_missing_credentials_have_different_codes(
    origins: CustomerOrigins, origin: OriginServer
) -> None:
    await origins.add("picture", "basic-http-auth", {**CREDENTIALS, "password": "wrong"})
    assert await origins.fault_code(origin.url("/picture")) == "origin_refused"
    await origins.add("page", "basic-http-auth", "s3://no-bucket/login.json")
    assert await origins.fault_code(origin.url("/page")) == "origin_credentials"


async def test_a_private_address_is_refused(
    database: Database, tmp_path: Path, origin: OriginServer
) -> None:
    async with customer_origins(database, tmp_path, allow_private_addresses=False) as origins:
        await origins.add("^http", "basic-http-auth", CREDENTIALS)
        assert await origins.fault_code(origin.url("/picture")) == "origin_private_address"
    assert origin.requests == []


async def test_a_redirect_sends_the_login_only_to_the_same_host(
    origins: CustomerOrigins, origin: OriginServer
) -> None:
    await origins.add("^http", "basic-http-auth", CREDENTIALS)
    origin.redirects["/here"] = "/picture"
    assert (await origins.fetch(origin.url("/here"))).bytes == len(PICTURE)
    async with origin_server() as other:
        other.files["/picture"] = PICTURE
        other.redirects["/back"] = origin.url("/picture")
        for name, to in (
            ("/port", other.url("/picture")),
            ("/name", origin.url("/picture", "localhost")),
            ("/away", other.url("/back")),
        ):
            origin.redirects[name] = to
        assert (await origins.fetch(origin.url("/port"))).bytes == len(PICTURE)
        assert "authorization" not in other.headers[-1]
        assert await origins.fault_code(origin.url("/name")) == "origin_refused"
        assert "authorization" not in origin.headers[-1]
        await origins.fetch(
            origin.url("/away")
        )  # the redirect back to the origin sends the login again
        assert "authorization" in origin.headers[-1]
        assert all("authorization" not in headers for headers in other.headers)


async def test_an_origin_with_an_unchanged_etag_is_not_sent_again(
    origins: CustomerOrigins, origin: OriginServer
) -> None:
    await origins.add("^http", "basic-http-auth", CREDENTIALS)
    url = origin.url("/picture")
    first = await origins.fetch(url)
    again = await origins.fetcher.fetch(CUSTOMER, url, origins.folder / "2", first.etag)
    assert again == NotModified(first.etag)
    origin.files["/picture"] = PICTURE + b"more"
    changed = await origins.fetcher.fetch(CUSTOMER, url, origins.folder / "3", first.etag)
    assert isinstance(changed, FetchedFile)
    assert changed.bytes == len(PICTURE) + 4


async def test_a_report_has_the_strategy_the_size_and_the_fault(
    origins: CustomerOrigins, origin: OriginServer
) -> None:
    strategy = await origins.add("^http", "basic-http-auth", CREDENTIALS)
    good = await origins.fetcher.examine(CUSTOMER, origin.url("/picture"))
    assert (good.strategy, good.kind, good.bytes, good.fault) == (
        strategy,
        "basic-http-auth",
        len(PICTURE),
        None,
    )
    for path, code in (
        ("/none", "origin_not_found"),
        ("/page", "not_an_image"),
        ("/large", "too_large"),
        ("/hang", "origin_timeout"),
    ):
        bad = await origins.fetcher.examine(CUSTOMER, origin.url(path))
        assert bad.strategy == strategy
        assert bad.fault is not None
        assert bad.fault.code == code
    odd = await origins.fetcher.examine(CUSTOMER, "gopher://x/y")
    assert odd.fault is not None
    assert odd.fault.code == "invalid_input"


@pytest.mark.parametrize(
    "target", ["/a%2Fb%7e?sig=x%2Fy%3d%2B&a=1%202", "/a%20b", "/%E6%97%A5?q=%e6", "/x//y/./z"]
)
async def test_an_address_is_requested_in_its_own_spelling(
    origins: CustomerOrigins, origin: OriginServer, target: str
) -> None:
    origin.files[target] = PICTURE
    origin.redirects["/to"] = target
    assert (await origins.fetch(origin.url(target))).bytes == len(PICTURE)
    if "/." not in target:
        assert (await origins.fetch(origin.url("/to"))).bytes == len(PICTURE)


async def test_characters_that_cannot_be_sent_are_escaped(
    origins: CustomerOrigins, origin: OriginServer
) -> None:
    origin.files["/b%C3%A4ume%20a.jpg"] = PICTURE
    assert (await origins.fetch(origin.url("/bäume a.jpg"))).bytes == len(PICTURE)
