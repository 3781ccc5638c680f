"""Image servers over HTTP: what they are asked, and that nothing broken of theirs gets through."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from PIL import Image

from orchestrator.errors import ImageServerUnavailable, Overloaded
from orchestrator.iiif.geometry import Limits, resolve
from orchestrator.iiif.syntax import parse_image_request
from orchestrator.model import SourceKind
from orchestrator.routing.remote_image_server import RemoteImageServer, request_path
from orchestrator.settings import ImageServer
from tests.support import pictures
from tests.support.builders import a_source, an_asset
from tests.support.reference_servers import iipsrv

DIMENSIONS = (4001, 3001)
JPEG = io.BytesIO()
Image.new("RGB", (64, 64), (10, 200, 30)).save(JPEG, "JPEG")
WHOLE = JPEG.getvalue()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refuses:
    """A fallback that says what fell to it."""

    async def render(self, asset, path, image):
        return b"fallback"

    async def check(self):
        return ""

    async def close(self):
        pass


def resolved(path: str):
    return resolve(parse_image_request(tuple(path.split("/")), 3), DIMENSIONS, Limits())


def asset():
    source = a_source(kind=SourceKind.JPEG2000, extension="jp2")
    return an_asset(width=DIMENSIONS[0], height=DIMENSIONS[1], source=source)


@asynccontextmanager
async def upstream(handler: Handler, **changes) -> AsyncIterator[RemoteImageServer]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = ImageServer(kind="cantaloupe", addresses=[address], **changes)
    server = RemoteImageServer(settings, Refuses())
    try:
        yield server
    finally:
        await server.close()
        await runner.cleanup()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "a b@1.jp2"
    path.write_bytes(b"not read by the stand-in")
    return path


@pytest.mark.parametrize(
    ("asked", "form"),
    [
        ("0,0,4001,3001/500,375/0/default.jpg", "full/500,/0/default.jpg"),
        ("0,0,2048,2048/512,512/0/default.jpg", "0,0,2048,2048/512,/0/default.jpg"),
        ("3584,2560,512,512/417,441/0/default.jpg", "3584,2560,417,441/417,/0/default.jpg"),
        ("full/,300/90/color.png", "full/400,/90/default.png"),
        ("full/100,300/!22.5/default.jpg", "full/100,300/!22.5/default.jpg"),
        ("2048,0,1953,2048/245,256/0/default.jpg", "2048,0,1953,2048/245,256/0/default.jpg"),
        ("2048,0,1953,2048/244,256/0/default.jpg", "2048,0,1953,2048/244,/0/default.jpg"),
    ],
)
def test_sizes_are_asked_in_the_form_that_image_servers_answer_fast(asked, form):
    got = request_path(resolved(asked))
    wanted = resolved(asked).size
    assert got.split("/")[0] == form.split("/")[0]
    assert (
        resolve(parse_image_request(tuple(got.split("/")), 3), DIMENSIONS, Limits()).size == wanted
    )
    if form != asked:
        assert got == form


async def test_the_path_is_encoded_and_no_header_of_a_client_travels(source):
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(body=WHOLE, content_type="image/jpeg")

    async with upstream(answer) as server:
        body = await server.render(asset(), source, resolved("0,0,512,512/512,512/0/default.jpg"))
    assert body == WHOLE
    encoded = str(source).replace("/", "%2F").replace(" ", "%20").replace("@", "%40")
    assert seen[0].raw_path == f"/iiif/3/{encoded}/0,0,512,512/512,/0/default.jpg"


LIES = {
    "status 500": (500, "image/jpeg", b"java.lang.OutOfMemoryError at /opt/images"),
    "empty 200": (200, "image/jpeg", b""),
    "truncated": (200, "image/jpeg", WHOLE[:-40]),
    "poisoned tail": (200, "image/jpeg", WHOLE + b"<html>error</html>"),
    "text with 200": (200, "text/plain", WHOLE),
    "another format": (200, "image/jpeg", b"\x89PNG\r\n\x1a\n" + WHOLE),
    "redirect": (302, "image/jpeg", b""),
}


def lying(how: str) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        if how in LIES:
            status, kind, body = LIES[how]
            headers = {"Location": "http://127.0.0.1:1/"} if status == 302 else {}
            return web.Response(status=status, content_type=kind, body=body, headers=headers)
        if how == "hang":
            await asyncio.sleep(30)
        return await cut_short(request)

    return answer


async def cut_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100000"})
    response.content_type = "image/jpeg"
    await response.prepare(request)
    await response.write(WHOLE)
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.mark.parametrize(
    "how",
    ["status 500", "empty 200", "truncated", "poisoned tail", "text with 200", "another format",
     "redirect", "cut connection", "hang"],
)  # fmt: skip
async def test_what_does_not_verify_is_not_served(source, how):
    async with upstream(lying(how), first_byte_timeout_s=0.5) as server:
        with pytest.raises(ImageServerUnavailable) as caught:
            await server.render(asset(), source, resolved("0,0,512,512/512,/0/default.jpg"))
    assert "/opt" not in caught.value.public


async def test_a_server_that_is_not_there_is_unavailable_and_named_by_the_check(source):
    server = RemoteImageServer(
        ImageServer(kind="cantaloupe", addresses=["http://127.0.0.1:1"]), Refuses()
    )
    with pytest.raises(ImageServerUnavailable):
        await server.render(asset(), source, resolved("full/500,/0/default.jpg"))
    assert "127.0.0.1:1" in await server.check()
    await server.close()


async def test_a_source_that_vanished_is_said_before_anybody_is_asked(source):
    async with upstream(lying("status 500")) as server:
        with pytest.raises(FileNotFoundError):
            await server.render(
                asset(), source.with_name("gone.jp2"), resolved("full/5,/0/default.jpg")
            )


async def test_beyond_its_queue_work_is_refused_at_once(source):
    gate = asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        await gate.wait()
        return web.Response(body=WHOLE, content_type="image/jpeg")

    async with upstream(slow, connections=1, queue=2) as server:
        image = resolved("0,0,512,512/512,/0/default.jpg")
        waiting = [asyncio.create_task(server.render(asset(), source, image)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded):
            await server.render(asset(), source, image)
        gate.set()
        assert await asyncio.gather(*waiting) == [WHOLE, WHOLE]


@pytest.mark.parametrize(
    "path",
    [
        "full/500,/0/default.webp",
        "full/500,/0/default.avif",
        "0,0,100,100/^200,/0/default.jpg",
        "full/500,/0/gray.jpg",
    ],
)
async def test_what_the_server_cannot_make_falls_to_the_built_in_renderer(source, path):
    async with upstream(lying("status 500")) as server:
        assert await server.render(asset(), source, resolved(path)) == b"fallback"


async def test_a_real_iipsrv_cuts_what_it_is_asked_from_the_shared_folder(tmp_path):
    path = pictures.jp2_tiled(tmp_path / "large.jp2", *DIMENSIONS)
    with iipsrv(tmp_path) as address:
        settings = ImageServer(
            kind="iipimage",
            addresses=[address],
            path_template="/{path}/{image}",
            sources_root=str(tmp_path),
        )
        server = RemoteImageServer(settings, Refuses())
        try:
            for asked in (
                "0,0,512,512/512,512/0/default.jpg",
                "full/500,375/0/default.jpg",
                "3584,2560,417,441/209,221/0/default.jpg",
            ):
                image = resolved(asked)
                body = await server.render(asset(), path, image)
                assert Image.open(io.BytesIO(body)).size == image.size
        finally:
            await server.close()
