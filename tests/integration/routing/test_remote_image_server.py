"""Image servers over HTTP: the requests that they get, and the verification of their responses."""

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
from orchestrator.routing.image_servers.remote_pool import RemotePool
from orchestrator.routing.image_servers.request_form import request_path
from orchestrator.settings import ImageServerPool
from tests.support import pictures
from tests.support.builders import a_source, an_asset
from tests.support.reference_servers import iipsrv

DIMENSIONS = (4001, 3001)


def an_image(width: int, height: int, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (10, 200, 30)).save(file, kind)
    return file.getvalue()


WHOLE = an_image(512, 512)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Fallback:
    """A fallback renderer with a recognisable answer."""

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
async def remote_server(handler: Handler, **changes) -> AsyncIterator[RemotePool]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = ImageServerPool(kind="cantaloupe", addresses=[address], **changes)
    server = RemotePool(settings, Fallback())
    try:
        yield server
    finally:
        await server.close()
        await runner.cleanup()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "a b@1.jp2"
    path.write_bytes(b"the fake server does not read it")
    return path


@pytest.mark.parametrize(
    ("request_text", "form"),
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
def test_sizes_are_requested_in_the_form_that_image_servers_answer_fast(request_text, form):
    got = request_path(resolved(request_text))
    size = resolved(request_text).size
    assert got.split("/")[0] == form.split("/")[0]
    assert resolve(parse_image_request(tuple(got.split("/")), 3), DIMENSIONS, Limits()).size == size
    if form != request_text:
        assert got == form


async def test_the_path_is_encoded_and_no_client_header_is_forwarded(source):
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(body=WHOLE, content_type="image/jpeg")

    async with remote_server(answer) as server:
        body = await server.render(asset(), source, resolved("0,0,512,512/512,512/0/default.jpg"))
    assert body == WHOLE
    encoded = str(source).replace("/", "%2F").replace(" ", "%20").replace("@", "%40")
    assert seen[0].raw_path == f"/iiif/3/{encoded}/0,0,512,512/512,/0/default.jpg"


INVALID_RESPONSES = {
    "status 500": (500, "image/jpeg", b"java.lang.OutOfMemoryError at /opt/images"),
    "empty 200": (200, "image/jpeg", b""),
    "truncated": (200, "image/jpeg", WHOLE[:-40]),
    "poisoned tail": (200, "image/jpeg", WHOLE + b"<html>error</html>"),
    "text with 200": (200, "text/plain", WHOLE),
    "another format": (200, "image/jpeg", b"\x89PNG\r\n\x1a\n" + WHOLE),
    "another size": (200, "image/jpeg", an_image(256, 256)),
    "no size": (200, "image/jpeg", WHOLE[:2] + WHOLE[-2:]),
    "redirect": (302, "image/jpeg", b""),
}


def invalid_response(how: str) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        if how in INVALID_RESPONSES:
            status, kind, body = INVALID_RESPONSES[how]
            headers = {"Location": "http://127.0.0.1:1/"} if status == 302 else {}
            return web.Response(status=status, content_type=kind, body=body, headers=headers)
        if how == "hang":
            await asyncio.sleep(30)
        return await close_early(request)

    return answer


async def close_early(request: web.Request) -> web.StreamResponse:
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
     "another size", "no size", "redirect", "cut connection", "hang"],
)  # fmt: skip
async def test_a_response_that_fails_verification_is_not_served(source, how):
    async with remote_server(invalid_response(how), first_byte_timeout_s=0.5) as server:
        with pytest.raises(ImageServerUnavailable) as caught:
            await server.render(asset(), source, resolved("0,0,512,512/512,/0/default.jpg"))
    assert "/opt" not in caught.value.public


@pytest.mark.parametrize(
    ("path", "sent", "is_used"),
    [
        ("0,0,512,512/300,/0/default.jpg", (300, 301), True),
        ("0,0,512,512/300,/0/default.jpg", (300, 302), False),
        ("0,0,512,256/300,150/90/default.jpg", (150, 300), True),
        ("0,0,512,256/300,150/90/default.jpg", (300, 150), False),
        ("0,0,512,512/100,100/45/default.png", (142, 142), True),
        ("0,0,512,512/100,100/45/default.png", (100, 100), False),
    ],
)
async def test_a_response_has_the_requested_size_within_a_pixel(source, path, sent, is_used):
    kind = "PNG" if path.endswith("png") else "JPEG"

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=an_image(*sent, kind), content_type=f"image/{kind.lower()}")

    async with remote_server(answer) as server:
        if is_used:
            assert await server.render(asset(), source, resolved(path))
        else:
            with pytest.raises(ImageServerUnavailable):
                await server.render(asset(), source, resolved(path))


async def test_a_server_that_does_not_listen_is_unavailable_and_named_by_the_check(source):
    server = RemotePool(
        ImageServerPool(kind="cantaloupe", addresses=["http://127.0.0.1:1"]), Fallback()
    )
    with pytest.raises(ImageServerUnavailable):
        await server.render(asset(), source, resolved("full/500,/0/default.jpg"))
    assert "127.0.0.1:1" in await server.check()
    await server.close()


async def test_a_missing_source_file_is_reported_without_a_request_to_the_server(source):
    async with remote_server(invalid_response("status 500")) as server:
        with pytest.raises(FileNotFoundError):
            await server.render(
                asset(), source.with_name("gone.jp2"), resolved("full/5,/0/default.jpg")
            )


async def test_requests_beyond_the_queue_are_refused_at_once(source):
    gate = asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        await gate.wait()
        return web.Response(body=WHOLE, content_type="image/jpeg")

    async with remote_server(slow, connections=1, queue=1) as server:
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
async def test_images_that_the_server_cannot_make_go_to_the_built_in_renderer(source, path):
    async with remote_server(invalid_response("status 500")) as server:
        assert await server.render(asset(), source, resolved(path)) == b"fallback"


async def test_a_real_iipsrv_cuts_images_from_the_shared_folder(tmp_path):
    path = pictures.jp2_tiled(tmp_path / "large.jp2", *DIMENSIONS)
    with iipsrv(tmp_path) as address:
        settings = ImageServerPool(
            kind="iipimage",
            addresses=[address],
            path_template="/{path}/{image}",
            sources_root=str(tmp_path),
        )
        server = RemotePool(settings, Fallback())
        try:
            for request_text in (
                "0,0,512,512/512,512/0/default.jpg",
                "full/500,375/0/default.jpg",
                "3584,2560,417,441/209,221/0/default.jpg",
            ):
                image = resolved(request_text)
                body = await server.render(asset(), path, image)
                assert Image.open(io.BytesIO(body)).size == image.size
        finally:
            await server.close()
