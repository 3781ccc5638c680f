"""What /ico refuses, each with its own status, and whom it permits what."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio
from pydantic import SecretStr

from orchestrator.settings import Ico
from orchestrator.transform.signatures import SignedText, sign
from tests.integration.ico.conftest import (
    PURGE_SECRET,
    SIGNING_SECRET,
    Site,
    jpeg,
    open_site,
)
from tests.support.gif_files import Frame, gif
from tests.support.server_fixtures import new_database

pytestmark = pytest.mark.asyncio(loop_scope="module")
OLD_SECRET = "the-secret-before-that"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("ico")
    settings = Ico(
        folder=str(folder / "pictures"),
        secrets=[SecretStr(SIGNING_SECRET), SecretStr(OLD_SECRET)],
        presets={"thumb": "width=50,height=50,crop=center"},
        allowed=["width=100,fit=crop"],
        purge_secrets=[SecretStr(PURGE_SECRET)],
        max_bytes=1_000_000,
        max_pixels=1_000_000,
    )
    dsn = await new_database(postgres)
    async with open_site(dsn, folder / "data", settings) as opened:
        await opened.put("a.jpg", jpeg(300, 200))
        await opened.put("notes.txt", b"no picture at all")
        await opened.put("wide.jpg", jpeg(2000, 1000))
        await opened.put("heavy.jpg", b"\xff\xd8\xff" + bytes(1_000_001))
        await opened.put("frames.gif", gif(4, 4, *[Frame(0, 0, 4, 4, 1)] * 10_000))
        yield opened


def signed(params: str, path: str, exp: str = "", secret: str = SIGNING_SECRET) -> str:
    """The signed URL of a picture."""
    query = {"exp": exp} if exp else {}
    query["sig"] = sign(secret, SignedText(params, path, exp))
    text = "&".join(f"{name}={value}" for name, value in query.items())
    return f"/ico/{quote(params, safe='=,:')}/{path}?{text}"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/ico/thumb/../a.jpg", 400, id="traversal"),
        pytest.param("/ico/thumb/%2e%2e/a.jpg", 400, id="encoded traversal"),
        pytest.param("/ico/thumb/..%2f..%2fetc%2fpasswd", 400, id="encoded slashes"),
        pytest.param("/ico/thumb//a.jpg", 400, id="empty segment"),
        pytest.param("/ico/thumb/%2Fetc/passwd", 400, id="leading slash"),
        pytest.param("/ico/thumb/a%00.jpg", 400, id="nul"),
        pytest.param("/ico/thumb/a%ff.jpg", 400, id="not UTF-8"),
        pytest.param(f"/ico/thumb/{'a/' * 600}b.jpg", 400, id="too long"),
        pytest.param("/ico/promo/a.jpg", 400, id="a folder is no parameters"),
        pytest.param("/ico/width=5,width=6/a.jpg", 400, id="twice"),
        pytest.param("/ico/depth=5/a.jpg", 400, id="unknown key"),
        pytest.param("/ico/width=5,fit=stretch/a.jpg", 400, id="bad value"),
        pytest.param("/ico/thumb/asset:1/x/y", 400, id="no asset id"),
        pytest.param("/ico/width=77/a.jpg", 403, id="unsigned"),
        pytest.param("/ico/width=77/missing.jpg", 403, id="unsigned and missing"),
        pytest.param("/ico/thumb/missing.jpg", 404, id="missing"),
        pytest.param("/ico/thumb/asset:1/1/missing", 404, id="missing asset"),
        pytest.param("/ico/thumb/.hidden.jpg", 404, id="hidden"),
        pytest.param("/ico/thumb", 404, id="no path"),
        pytest.param("/ico/thumb/", 404, id="empty path"),
        pytest.param("/ico/thumb/notes.txt", 415, id="no picture"),
        pytest.param("/ico/thumb/wide.jpg", 413, id="too many pixels"),
        pytest.param("/ico/thumb/heavy.jpg", 413, id="too many bytes"),
        pytest.param("/ico/thumb/frames.gif", 413, id="too many frames"),
    ],
)
async def test_a_request_is_refused_with_its_own_status(site: Site, path: str, status: int) -> None:
    answer = await site.ask(path)
    assert (answer.status, json.loads(answer.body)["status"]) == (status, status), answer.body
    assert json.loads(answer.body)["error"]


@pytest.mark.parametrize("key", ["depth", "width", "fit"])
async def test_a_bad_parameter_is_named(site: Site, key: str) -> None:
    answer = await site.ask(f"/ico/{key}=wrong/a.jpg")
    assert answer.status == 400
    assert key in json.loads(answer.body)["error"]


async def test_presets_and_allowed_parameters_need_no_signature(site: Site) -> None:
    assert (await site.ask("/ico/thumb/a.jpg")).size == (50, 50)
    assert (await site.ask("/ico/width=100/a.jpg")).size == (100, 67)
    assert (await site.ask("/ico/d2lkdGg9MTAw/a.jpg")).size == (100, 67)


async def test_a_signed_url_is_permitted_by_each_secret(site: Site) -> None:
    for secret in (SIGNING_SECRET, OLD_SECRET):
        answer = await site.ask(signed("width=77", "a.jpg", secret=secret))
        assert (answer.status, answer.size) == (200, (77, 51))
    assert (await site.ask(signed("width=77", "a.jpg", secret="x" * 20))).status == 403


async def test_a_signature_is_that_of_one_picture_and_its_parameters(site: Site) -> None:
    url = signed("width=78", "a.jpg")
    assert (await site.ask(url.replace("width=78", "width=79"))).status == 403
    assert (await site.ask(url.replace("a.jpg", "wide.jpg"))).status == 403
    assert (await site.ask(f"{url}&exp={int(time.time()) + 60}")).status == 403
    assert (await site.ask(url[:-1] + ("0" if url[-1] != "0" else "1"))).status == 403


async def test_a_url_expires(site: Site) -> None:
    now = int(time.time())
    answer = await site.ask(signed("width=76", "a.jpg", str(now + 100)))
    assert answer.status == 200
    lifetimes = answer.headers["cache-control"].replace(",", "").split("=")
    assert [int(text.split()[0]) <= 100 for text in lifetimes[1:]] == [True, True]
    assert (await site.ask(signed("width=76", "a.jpg", str(now - 1)))).status == 410
    later = signed("width=76", "a.jpg", str(now - 1)).replace(str(now - 1), str(now + 100))
    assert (await site.ask(later)).status == 403


async def test_a_purge_needs_the_secret(site: Site) -> None:
    assert (await site.ask("/ico/a.jpg", "DELETE")).status == 401
    assert (await site.ask("/ico/a.jpg", "DELETE", Authorization="Bearer wrong")).status == 403
    right = f"Bearer {PURGE_SECRET}"
    assert (await site.ask("/ico/../a.jpg", "DELETE", Authorization=right)).status == 400
    assert (await site.ask("/ico/a.jpg", "DELETE", Authorization=right)).status == 200


async def test_headers_of_a_bucket_that_is_not_allowed_are_refused(site: Site) -> None:
    pair = {"X_S3_Region": "us-east-1", "X_S3_Bucket": "secrets"}
    assert (await site.ask("/ico/thumb/a.jpg", **pair)).status == 403


async def test_a_restricted_file_outside_the_folder_cannot_be_named(site: Site) -> None:
    for path in ("/ico/thumb/%5c..%5ca.jpg", "/ico/thumb/a.jpg/b.jpg"):
        assert (await site.ask(path)).status in (400, 404)
