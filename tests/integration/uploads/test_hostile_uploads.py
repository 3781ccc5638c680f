"""Uploads that attack: every one is refused with a reason. Nothing is left in the work folder."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from tests.integration.ico.conftest import Reply
from tests.integration.uploads.conftest import UploadSite, encoded, jpeg, open_uploads, until
from tests.support.patience import patience
from tests.support.server_fixtures import new_database

pytestmark = pytest.mark.asyncio(loop_scope="session")
MAX_BYTES = 2_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small(
    postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[UploadSite]:
    """A site with small limits. The work folder does not depend on the storage."""
    dsn, folder = await new_database(postgres), tmp_path_factory.mktemp("hostile")
    dead = folder / "temp" / "4242-0123456789ab"
    dead.mkdir(parents=True)
    (dead / "received").write_bytes(b"of a process that was killed")
    (folder / "temp" / "notes.txt").write_text("of another program")
    limits: dict[str, Any] = {"strip_originals": True}
    limits |= {"max_bytes": MAX_BYTES, "max_frames": 100, "pause_timeout_s": 2.5, "max_uploads": 2}
    async with open_uploads(dsn, folder, receive_timeout_s=8, **limits) as opened:
        yield opened


async def refused(site: UploadSite, body: bytes, status: int, name: str = "a.jpg") -> str:
    """Upload; the reason why it was refused."""
    reply = await site.upload(body, name)
    assert reply.status == status, reply.body
    assert reply.headers["access-control-allow-origin"] == "*"
    assert site.leftovers() == []
    return str(json.loads(reply.body)["error"])


def png_of(width: int, height: int) -> bytes:
    """A PNG of zeros that is larger than it looks."""

    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    row = zlib.compress(bytes((width + 7) // 8 + 1) * min(height, 1000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


def gif_of(frames: int) -> bytes:
    """A GIF of many frames of one pixel."""
    head = b"GIF89a\x01\x00\x01\x00\x80\x00\x00" + bytes(3) + b"\xff\xff\xff"
    frame = b"\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00"
    return head + frame * frames + b";"


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("evil.class", b"x" * 100)
    return buffer.getvalue()


async def test_what_a_killed_process_left_is_swept_at_the_start(small: UploadSite) -> None:
    names = {path.name for path in small.temp.iterdir()}
    assert "4242-0123456789ab" not in names
    assert "notes.txt" in names
    (small.temp / "notes.txt").unlink()


async def test_originals_have_no_place_if_configured(small: UploadSite) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 30.0, 0.0)})
    body = jpeg(60, 40, exif=exif)
    filename = await small.published(body)
    stored = Image.open(io.BytesIO((await small.ask(f"/active/{filename}")).body))
    assert dict(stored.getexif()) == {0x0112: 6}
    assert stored.tobytes() == Image.open(io.BytesIO(body)).tobytes()


async def test_a_bomb_is_refused_before_it_is_decoded(small: UploadSite) -> None:
    assert "pixels" in await refused(small, png_of(30_000, 30_000), 413)


async def test_a_gif_of_too_many_frames_is_refused(small: UploadSite) -> None:
    assert "frames" in await refused(small, gif_of(10_000), 413)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (jpeg(60, 40) + zipped(), "ZIP"),
        (jpeg(60, 40, comment=b"<script>alert(1)</script>"), "web page"),
        (encoded(Image.new("RGB", (9, 9)), "PNG") + b"<?php system(1); ?>", "web page"),
        (jpeg(60, 40, comment=b"%PDF-1.7"), "PDF"),
        (b"GIF89a/*" + bytes(200) + b"*/=1;alert(1)", ""),
        (jpeg(600, 400)[:-9000], "incomplete"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", ""),
        (b"push graphic-context\nviewbox 0 0 640 480\n", ""),
        (b"%PDF-1.7\n", ""),
        (zipped(), ""),
        (b"<html><script>alert(1)</script></html>", ""),
    ],
    ids=[
        "zip", "script", "php", "pdf-in-jpeg", "gif-js", "cut", "ps", "mvg", "pdf", "archive",
        "html",
    ],
)  # fmt: skip
async def test_what_is_no_picture_or_not_only_one_is_refused(
    small: UploadSite, body: bytes, reason: str
) -> None:
    assert reason in await refused(small, body, 400)


async def test_content_decides_and_neither_name_nor_type(small: UploadSite) -> None:
    reply = await small.upload(encoded(Image.new("RGB", (9, 9)), "PNG"), "../../etc/passwd.svg")
    assert reply.status == 200
    assert json.loads(reply.body)["filename"].endswith(".png")
    await refused(small, b"<html>", 400, "picture.svg")


@pytest.mark.parametrize(
    "drawing",
    [
        "<script>alert(1)</script>",
        '<rect width="9" height="9" onclick="alert(1)"/>',
        '<a href="javascript:alert(1)"><rect width="9" height="9"/></a>',
        "<foreignObject><body xmlns='http://www.w3.org/1999/xhtml'><script/></body></foreignObject>",
        '<image href="file:///etc/passwd" width="9" height="9"/>',
        "<style>@import url(http://evil.example/);</style>",
    ],
    ids=["script", "handler", "link", "foreign", "file", "import"],
)
async def test_a_published_drawing_runs_nothing(small: UploadSite, drawing: str) -> None:
    body = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10">'
        f'{drawing}<path d="M0 0h20v10z" fill="#f00"/></svg>'
    )
    filename = await small.published(body.encode())
    reply = await small.ask(f"/active/{filename}")
    assert reply.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in reply.headers["content-security-policy"]
    assert reply.headers["x-content-type-options"] == "nosniff"
    text = reply.body.decode().lower()
    for word in ("script", "onclick", "foreignobject", "file:", "evil"):
        assert word not in text
    assert "#f00" in text
    again = await small.ask_for_memory(f"/active/{filename}")
    assert "sandbox" in again.headers["content-security-policy"]


async def test_external_entities_are_refused_or_removed(small: UploadSite) -> None:
    body = (
        b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><text>&x;</text></svg>'
    )
    reply = await small.upload(body)
    if reply.status == 200:
        filename = json.loads(reply.body)["filename"]
        assert (await small.change("publish", filename=filename)).status == 200
        assert b"root:" not in (await small.ask(f"/active/{filename}")).body
    else:
        assert reply.status == 400


async def send(site: UploadSite, length: str, chunks: AsyncIterator[bytes]) -> tuple[bytes, int]:
    """Send a form by hand: the answer, and how many bytes of the body were sent until then."""
    port = int(site.site.base.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    try:
        writer.write(
            b"POST /upload HTTP/1.1\r\nHost: here\r\nContent-Type: multipart/form-data; "
            b"boundary=b\r\n" + length.encode() + b"\r\n\r\n"
        )
        answer = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        async for chunk in chunks:
            if answer.done():
                break
            writer.write(chunk)
            sent += len(chunk)
            await writer.drain()
        return await asyncio.wait_for(answer, 30 * patience()), sent
    except ConnectionError:
        return (answer.result() if answer.done() and not answer.exception() else b""), sent
    finally:
        writer.close()


PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'


async def test_a_body_that_announces_10_gb_is_refused_without_being_read(small: UploadSite) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield PART
        for _ in range(10_000):
            await asyncio.sleep(0)
            yield bytes(1_000_000)

    answer, sent = await send(small, "Content-Length: 10000000000", body())
    assert b" 413 " in answer or not answer
    assert sent < 2_000_000_000
    assert small.leftovers() == []


async def test_a_body_without_a_length_is_read_up_to_the_limit(small: UploadSite) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"%x\r\n%b\r\n" % (len(PART), PART)
        for _ in range(10_000):
            await asyncio.sleep(0)
            yield b"f4240\r\n" + bytes(1_000_000) + b"\r\n"

    answer, sent = await send(small, "Transfer-Encoding: chunked", body())
    assert b" 413 " in answer or not answer
    assert sent < 2_000_000_000
    await until(lambda: small.leftovers() == [])


async def test_a_client_that_asks_first_sends_nothing_of_a_body_that_is_too_large(
    small: UploadSite,
) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        for _ in range(3000):
            await asyncio.sleep(0.01)
            yield b""

    header = "Content-Length: 10000000000\r\nExpect: 100-continue"
    answer, sent = await send(small, header, nothing())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent == 0


async def test_a_body_that_pauses_ends(small: UploadSite) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield PART + b"\xff\xd8\xff"

    answer, _ = await send(small, "Content-Length: 100000", body())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert small.leftovers() == []


async def test_a_body_that_trickles_ends(small: UploadSite) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield PART
        for _ in range(200):
            await asyncio.sleep(0.3)
            yield b"\xff"

    answer, _ = await send(small, "Content-Length: 100000", body())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert small.leftovers() == []


async def test_a_client_that_leaves_leaves_nothing(small: UploadSite) -> None:
    port = int(small.site.base.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /upload HTTP/1.1\r\nHost: here\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        b"Content-Length: 1500000\r\n\r\n" + PART + bytes(1_200_000)
    )
    await until(lambda: small.leftovers() != [])
    writer.transport.abort()
    await until(lambda: small.leftovers() == [])


async def test_more_uploads_than_allowed_at_once_are_refused(small: UploadSite) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield PART
        for _ in range(10):
            await asyncio.sleep(0.2)
            yield b"\xff"

    waiting = [
        asyncio.ensure_future(send(small, "Content-Length: 100000", slow())) for _ in range(2)
    ]
    await until(lambda: len(small.leftovers()) == 2)
    reply: Reply = await small.upload(jpeg(20, 20))
    assert (reply.status, "retry-after" in reply.headers) == (503, True)
    await asyncio.gather(*waiting)
    assert (await small.upload(jpeg(20, 20))).status == 200
