"""Resumable uploads (tus), direct uploads, tokens and rates, over HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio

from orchestrator.uploads.upload_permits import create_token
from tests.integration.ico.conftest import Reply
from tests.integration.uploads.conftest import UploadSite, jpeg, open_uploads, until
from tests.support.server_fixtures import new_database

pytestmark = pytest.mark.asyncio(loop_scope="session")

HEADERS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
BODY = jpeg(900, 700)
TOKEN_SECRET = "a-secret-for-upload-tokens-" * 2


async def send(
    site: UploadSite, method: str, path: str, body: bytes = b"", **headers: str
) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = path if path.startswith("http") else f"{site.site.base}/{path}"
    sent = {**HEADERS, **named}
    data = io.BytesIO(body) if body else b""  # for bytes of a megabyte aiohttp has a warning
    async with site.site.session.request(method, url, data=data, headers=sent) as response:
        fields = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status, fields, await response.read())


def unfinished(site: UploadSite) -> set[str]:
    """The files of partial uploads, and others in the work folder."""
    partial = (site.temp / "partial-uploads").glob("*-*")
    return {path.name for path in partial} | set(site.leftovers())


async def begin(site: UploadSite, body: bytes = BODY, **headers: str) -> str:
    reply = await send(site, "POST", "tus", Upload_Length=str(len(body)), **headers)
    assert reply.status == 201, reply.body
    return reply.headers["location"]


async def test_an_upload_in_parts_ends_as_an_incoming_picture(site: UploadSite) -> None:
    place = await begin(site, Upload_Metadata="filename cGhvdG8uanBn")
    half = len(BODY) // 2
    first = await send(site, "PATCH", place, BODY[:half], Upload_Offset="0")
    assert (first.status, first.headers["upload-offset"]) == (204, str(half))
    assert "upload-expires" in first.headers
    again = await send(site, "PATCH", place, BODY[:half], Upload_Offset="0")
    assert again.status == 409
    assert again.headers["tus-resumable"] == "1.0.0"
    state = await send(site, "HEAD", place)
    assert state.status == 200
    assert state.headers["upload-offset"] == str(half)
    assert state.headers["upload-length"] == str(len(BODY))
    assert state.headers["upload-metadata"] == "filename cGhvdG8uanBn"
    assert state.headers["cache-control"] == "no-store"
    last = await send(site, "PATCH", place, BODY[half:], Upload_Offset=str(half))
    assert (last.status, last.headers["upload-offset"]) == (204, str(len(BODY)))
    answer = json.loads((await site.ask(place.removeprefix(site.site.base))).body)
    assert answer["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert (answer["width"], answer["height"]) == (900, 700)
    assert len(await site.keys("incoming", answer["filename"])) == 4
    assert (await site.change("publish", filename=answer["filename"])).status == 200


async def test_creation_with_upload_and_a_checksum(site: UploadSite) -> None:
    digest = base64.b64encode(hashlib.sha1(BODY).digest()).decode()
    length = str(len(BODY))
    reply = await send(
        site, "POST", "tus", BODY, Upload_Length=length, Upload_Checksum=f"sha1 {digest}"
    )
    assert (reply.status, reply.headers["upload-offset"]) == (201, length)
    place = await begin(site)
    wrong = await send(
        site, "PATCH", place, BODY[:-1], Upload_Offset="0", Upload_Checksum=f"sha1 {digest}"
    )
    assert wrong.status == 460
    assert (await send(site, "HEAD", place)).headers["upload-offset"] == "0"
    odd = await send(site, "PATCH", place, b"x", Upload_Offset="0", Upload_Checksum="crc32 AAAA")
    assert odd.status == 400


async def test_options_name_what_is_supported(site: UploadSite) -> None:
    reply = await site.ask("/tus", "OPTIONS", Origin="https://example.org")
    assert reply.status == 204
    assert reply.headers["tus-version"] == "1.0.0"
    assert reply.headers["tus-max-size"] == str(100 * 1000**2)
    assert "creation-with-upload" in reply.headers["tus-extension"]
    assert "Upload-Offset" in reply.headers["access-control-allow-headers"]
    assert "PATCH" in reply.headers["access-control-allow-methods"]
    assert reply.headers["access-control-allow-origin"] == "*"


REFUSED: dict[str, tuple[dict[str, str], int]] = {
    "another version": ({"Tus-Resumable": "0.2.2", "Upload-Length": "9"}, 412),
    "no length": ({}, 400),
    "length that is no number": ({"Upload-Length": "-1"}, 400),
    "unknown length": ({"Upload-Defer-Length": "1"}, 400),
    "empty": ({"Upload-Length": "0"}, 400),
    "too large": ({"Upload-Length": str(10 * 1000**3)}, 413),
    "long metadata": ({"Upload-Length": "9", "Upload-Metadata": "a" * 5000}, 400),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_an_upload_that_cannot_begin_is_refused(site: UploadSite, name: str) -> None:
    headers, status = REFUSED[name]
    before = unfinished(site)
    reply = await send(site, "POST", "tus", **headers)
    assert reply.status == status
    assert reply.headers["access-control-allow-origin"] == "*"
    assert unfinished(site) == before


async def test_what_is_no_picture_is_refused_and_leaves_nothing(site: UploadSite) -> None:
    text = b"<script>alert(1)</script>" * 100
    place = await begin(site, text)
    reply = await send(site, "PATCH", place, text, Upload_Offset="0")
    assert reply.status == 400
    assert "error" in json.loads(reply.body)
    assert (await send(site, "HEAD", place)).status == 404
    assert not [path for path in unfinished(site) if place.rpartition("/")[2] in path]


async def test_an_upload_can_be_cancelled(site: UploadSite) -> None:
    place = await begin(site)
    assert (await send(site, "PATCH", place, BODY[:9], Upload_Offset="0")).status == 204
    assert (await send(site, "DELETE", place)).status == 204
    assert (await send(site, "PATCH", place, BODY[9:], Upload_Offset="9")).status == 404
    other = await begin(site)
    assert (await send(site, "POST", other, X_HTTP_Method_Override="DELETE")).status == 204
    assert (await send(site, "HEAD", other)).status == 404
    assert (await send(site, "POST", other)).status == 405
    assert (await send(site, "PUT", "tus")).status == 405


async def test_bytes_of_another_media_type_are_refused(site: UploadSite) -> None:
    place = await begin(site)
    reply = await send(site, "PATCH", place, BODY, Upload_Offset="0", Content_Type="image/jpeg")
    assert reply.status == 415


async def test_what_arrived_before_the_client_was_lost_is_kept(site: UploadSite) -> None:
    body = bytes(3_000_000)
    place = await begin(site, body)
    target = urlsplit(place)
    lines = [f"PATCH {target.path} HTTP/1.1", f"Host: {target.netloc}", "Upload-Offset: 0"]
    lines += [f"Content-Length: {len(body)}", *(f"{n}: {v}" for n, v in HEADERS.items()), "", ""]
    _, writer = await asyncio.open_connection(target.hostname, target.port)
    writer.write("\r\n".join(lines).encode() + body[:2_000_000])

    async def offset() -> int:
        return int((await send(site, "HEAD", place)).headers["upload-offset"])

    await until(offset)
    writer.close()
    await writer.wait_closed()
    kept = await offset()
    assert kept >= 1_000_000

    async def is_resumed() -> bool:
        start = await offset()
        reply = await send(site, "PATCH", place, body[start:-1], Upload_Offset=str(start))
        return reply.status == 204

    await until(is_resumed)
    assert await offset() == len(body) - 1
    assert (await send(site, "DELETE", place)).status == 204


# --- direct to the bucket ---------------------------------------------------------------------


async def test_a_picture_stored_in_the_bucket_is_received(site: UploadSite) -> None:
    asked = await site.post("presign", json={"type": "image/jpeg"})
    if not site.endpoint:
        assert asked.status == 404
        return
    assert asked.status == 200, asked.body
    form = json.loads(asked.body)
    early = await site.post("complete", json={"key": form["key"]})
    assert early.status == 404
    assert await _store(form, BODY) == 204
    received = await site.post("complete", data={"key": form["key"]})
    assert received.status == 200, received.body
    answer = json.loads(received.body)
    assert answer["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert (await site.post("complete", json={"key": form["key"]})).status == 404
    assert (await site.change("publish", filename=answer["filename"])).status == 200
    stores = site.services.stores
    assert [info.key async for info in stores.incoming.list("direct/")] == []


async def test_what_is_no_picture_in_the_bucket_is_refused_and_deleted(site: UploadSite) -> None:
    if not site.endpoint:
        return
    for kind in ("text/html", "", "image/" + "x" * 200):
        assert (await site.post("presign", json={"type": kind})).status == 400
    form = json.loads((await site.post("presign", json={"type": "image/png"})).body)
    assert await _store(form, b"<html>" * 100) == 204
    assert (await site.post("complete", json={"key": form["key"]})).status == 400
    assert (await site.post("complete", json={"key": form["key"]})).status == 404
    for key in ("", "direct/x", "../secret", "1_2.jpg"):
        assert (await site.post("complete", json={"key": key})).status == 404


async def _store(form: dict[str, Any], body: bytes) -> int:
    data = aiohttp.FormData()
    for name, value in form["fields"].items():
        data.add_field(name, value)
    data.add_field("file", body, filename="photo.jpg")
    async with aiohttp.ClientSession() as client, client.post(form["url"], data=data) as answer:
        return answer.status


# --- tokens and rates -------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(
    postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[UploadSite]:
    folder: Path = tmp_path_factory.mktemp("guarded")
    settings = {"token_secrets": [TOKEN_SECRET], "rate_limit": 3, "expire_after_s": 3600}
    async with open_uploads(await new_database(postgres), folder, **settings) as opened:
        yield opened


async def test_tokens_and_rates_hold_for_every_way_to_upload(guarded: UploadSite) -> None:
    site, length = guarded, {"Upload-Length": "9"}
    for header, status in (("", 401), ("Bearer x.y.z", 403)):
        assert (await send(site, "POST", "tus", Authorization=header, **length)).status == status
        form = aiohttp.FormData()
        form.add_field("file", BODY, filename="a.jpg")
        reply = await site.post("upload", data=form, headers={"Authorization": header})
        assert reply.status == status
        assert reply.headers["access-control-allow-origin"] == "*"
    bearer = {"Authorization": f"Bearer {create_token([TOKEN_SECRET], 60)}"}
    form = aiohttp.FormData()
    form.add_field("file", BODY, filename="a.jpg")
    assert (await site.post("upload", data=form, headers=bearer)).status == 200
    for _ in range(2):
        assert (await send(site, "POST", "tus", **bearer, **length)).status == 201
    refused = await send(site, "POST", "tus", **bearer, **length)
    assert refused.status == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert (await site.ask("/ping")).status == 200
