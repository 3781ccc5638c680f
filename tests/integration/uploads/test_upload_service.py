"""The statements of the replaced service's own tests, on local and S3 storage, and the form of its
answers.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping

import pytest
from PIL import Image

from tests.integration.uploads.conftest import (
    OTHER_SECRET,
    SECRET,
    UploadSite,
    encoded,
    jpeg,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")
ORIGIN = {"Origin": "http://camptocamp.org"}
VIOLIN = jpeg(mode="L")


async def publish(site: UploadSite, filename: str, crop: str = "", secret: str = SECRET) -> int:
    """Publish as the replaced service's client; asserts what it asserts."""
    fields = {"secret": secret, "filename": filename} | ({"crop": crop} if crop else {})
    reply = await site.post("publish", data=fields, headers=ORIGIN)
    assert reply.headers["access-control-allow-origin"] == "*"
    return reply.status


async def test_ping_answers_pong(site: UploadSite) -> None:
    reply = await site.ask("/ping")
    assert (reply.status, reply.body) == (200, b"Pong!")


async def test_a_tiff_is_refused(site: UploadSite) -> None:
    reply = await site.upload(encoded(Image.new("RGB", (60, 24)), "TIFF"), "music.tiff")
    assert reply.status == 400
    assert "TIFF" in json.loads(reply.body)["error"]


async def test_a_text_is_refused(site: UploadSite) -> None:
    assert (await site.upload(b"this is not a JPEG at all", "invalid_content.jpg")).status == 400


async def test_a_wrong_secret_is_refused_with_cors(site: UploadSite) -> None:
    filename = await site.uploaded(VIOLIN, "violin.jpg")
    assert await publish(site, filename, secret="wrong") == 403
    assert await site.keys("active", filename) == []


async def test_a_picture_is_uploaded_and_published(site: UploadSite) -> None:
    filename = await site.uploaded(VIOLIN, "violin.jpg")
    assert await publish(site, filename) == 200


async def test_a_picture_is_published_twice(site: UploadSite) -> None:
    filename = await site.uploaded(VIOLIN, "violin.jpg")
    assert [await publish(site, filename) for _ in range(2)] == [200, 200]


async def test_a_picture_is_published_with_one_crop_and_then_another(site: UploadSite) -> None:
    filename = await site.uploaded(VIOLIN, "violin.jpg")
    assert await publish(site, filename, "100x100+10+10") == 200
    assert await site.sizes(filename) == [(100, 100), (100, 100), (200, 200)]
    assert await publish(site, filename, "200x200+10+10") == 200
    assert await site.sizes(filename) == [(200, 200), (200, 200), (200, 200)]


async def test_a_crop_stays_when_the_picture_is_published_without_one(site: UploadSite) -> None:
    filename = await site.uploaded(VIOLIN, "violin.jpg")
    assert await publish(site, filename, "100x100+10+10") == 200
    assert await publish(site, filename) == 200
    assert await site.sizes(filename) == [(100, 100), (100, 100), (200, 200)]


async def test_a_published_picture_is_cropped_later(site: UploadSite) -> None:
    filename = await site.uploaded(VIOLIN, "violin.jpg")
    assert await publish(site, filename) == 200
    assert await site.sizes(filename) == [(426, 592), (288, 400), (200, 200)]
    assert await publish(site, filename, "100x100+10+10") == 200
    assert await site.sizes(filename) == [(100, 100), (100, 100), (200, 200)]
    whole = await site.ask(f"/active/{filename}")
    assert whole.body == VIOLIN


async def test_the_reply_names_the_picture_and_says_what_it_is(site: UploadSite) -> None:
    reply = await site.upload(VIOLIN, "../../violin.png")
    document = json.loads(reply.body)
    assert re.fullmatch(r"\d{10}_\d{10}\.jpg", document.pop("filename"))
    assert document == {
        "success": True,
        "width": 426,
        "height": 592,
        "sha256": hashlib.sha256(VIOLIN).hexdigest(),
    }


async def test_incoming_is_private_and_active_is_public_with_its_caching(site: UploadSite) -> None:
    filename = await site.uploaded(encoded(Image.new("P", (115, 55), 3), "PNG"))
    base = filename.partition(".")[0]
    every = sorted([filename, *(f"{base}{name}.png" for name in ("BI", "MI", "SI"))])
    assert await site.keys("incoming", filename) == every
    assert (await site.ask(f"/active/{filename}")).status == 404
    if site.endpoint:
        assert (await anonymous(site, "pictures", filename))[0] == 403
    assert await publish(site, filename) == 200
    assert (await site.keys("incoming", filename), await site.keys("active", filename)) == (
        [],
        every,
    )
    reply = await site.ask(f"/active/{filename}")
    assert reply.status == 200
    assert reply.headers["content-type"] == "image/png"
    assert reply.headers["cache-control"] == "public, max-age=3600"
    assert "expires" not in reply.headers
    if site.endpoint:
        status, headers = await anonymous(site, "public-pictures", f"{base}MI.png")
        assert (status, headers["Content-Type"]) == (200, "image/png")
        assert headers["Cache-Control"] == "public, max-age=3600"
        assert "Expires" not in headers
    assert (await site.change("delete", filenames=filename)).status == 200
    assert await site.keys("active", filename) == []


async def anonymous(site: UploadSite, bucket: str, key: str) -> tuple[int, Mapping[str, str]]:
    async with site.site.session.get(f"{site.endpoint}/{bucket}/{key}") as response:
        return response.status, response.headers


SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="521.6" height="579">
<rect width="100%" height="100%" fill="#a33"/></svg>"""


@pytest.mark.parametrize(
    ("body", "extension", "expected"),
    [
        (VIOLIN, "jpg", [(426, 592), (288, 400), (200, 200)]),
        (
            encoded(Image.new("P", (1151, 551), 5), "PNG"),
            "png",
            [(1151, 551), (400, 191), (200, 200)],
        ),
        (
            encoded(Image.new("P", (600, 244), 5), "GIF"),
            "gif",
            [(600, 244), (400, 163), (200, 200)],
        ),
        (SVG, "svg", [(522, 579), (361, 400), (200, 200)]),
        (jpeg(100, 80), "jpg", [(100, 80), (100, 80), (200, 200)]),
        (jpeg(600, 500, "CMYK"), "jpg", [(600, 500), (400, 333), (200, 200)]),
    ],
    ids=["gray-jpeg", "palette-png", "gif", "svg", "small", "cmyk-jpeg"],
)
async def test_versions_have_the_golden_sizes(
    site: UploadSite, body: bytes, extension: str, expected: list[tuple[int, int]]
) -> None:
    filename = await site.published(body)
    assert filename.endswith(f".{extension}")
    assert await site.sizes(filename) == expected
    forms = {
        Image.open(io.BytesIO((await site.version(filename, name)).body)).format
        for name in ("BI", "MI", "SI")
    }
    assert forms == {{"svg": "JPEG", "jpg": "JPEG"}.get(extension, extension.upper())}


async def test_every_frame_of_an_animation_is_kept(site: UploadSite) -> None:
    frames = [Image.new("RGB", (300, 200), name) for name in ("red", "lime", "blue")]
    body = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=90)
    filename = await site.published(body)
    small = Image.open(io.BytesIO((await site.version(filename, "SI")).body))
    assert (small.size, small.n_frames) == ((200, 200), 3)  # type: ignore[attr-defined]


async def test_fields_may_be_json_and_the_secret_a_bearer(site: UploadSite) -> None:
    filename = await site.uploaded(VIOLIN)
    bearer = {"Authorization": f"Bearer {OTHER_SECRET}"}
    reply = await site.post("publish", json={"filename": filename}, headers=bearer)
    assert reply.status == 200
    reply = await site.post(
        "publish", json={"filename": filename, "crop": "9x9+0+0", "secret": SECRET}
    )
    assert reply.status == 200
    assert (await site.version(filename, "BI")).size == (9, 9)
    reply = await site.post("delete", json={"filenames": [filename]}, headers=bearer)
    assert reply.status == 200


async def test_a_crop_whose_plus_signs_are_not_encoded_is_understood(site: UploadSite) -> None:
    filename = await site.uploaded(VIOLIN)
    reply = await site.post(
        "publish",
        data=f"secret={SECRET}&filename={filename}&crop=100x90+10+10",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert reply.status == 200
    assert (await site.version(filename, "BI")).size == (100, 90)


@pytest.mark.parametrize("action", ["publish", "recrop", "rotate", "delete"])
async def test_mistakes_of_callers_have_a_status_and_cors(site: UploadSite, action: str) -> None:
    name = "filenames" if action == "delete" else "filename"
    unknown = {"secret": SECRET, name: "1500000000_1.jpg"}
    for expected, body in (
        (401, {"data": {name: "1_2.jpg"}}),
        (403, {"data": {name: "1_2.jpg", "secret": "wrong"}}),
        (400, {"data": {"secret": SECRET}}),
        (400, {"data": unknown | {name: "../outside.txt"}}),
        (400, {"data": unknown | {name: "1_2BI.jpg"}}),
        (400, {"data": b"{", "headers": {"Content-Type": "application/json"}}),
        (400, {"json": ["a list"]}),
        (404 if action != "delete" else 200, {"data": unknown}),
    ):
        reply = await site.post(action, **body)  # type: ignore[arg-type]
        assert reply.status == expected, (body, reply.body)
        assert reply.headers["access-control-allow-origin"] == "*"
    reply = await site.ask(f"/{action}")
    assert (reply.status, reply.headers["allow"]) == (405, "OPTIONS, POST")
    preflight = await site.ask(f"/{action}", "OPTIONS", Origin="http://camptocamp.org")
    assert preflight.status == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    "crop", ["garbage", "100x100", "0x0+0+0", "10x10+426+0", "10x10+0+592", "-1x10+0+0"]
)
async def test_a_wrong_crop_is_refused_and_changes_nothing(site: UploadSite, crop: str) -> None:
    filename = await site.uploaded(VIOLIN)
    assert await publish(site, filename, crop) == 400
    assert await site.keys("active", filename) == []
    assert site.leftovers() == []
    assert await publish(site, filename) == 200


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        ({"Content-Type": "text/plain"}, b"x"),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"--b--\r\n"),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"nonsense"),
        (
            {"Content-Type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--b--\r\n',
        ),
        (
            {"Content-Type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
            b"\r\n\r\n--b--\r\n",
        ),
        ({"Content-Type": "multipart/form-data"}, b"x"),
    ],
    ids=["text", "empty-form", "nonsense", "no-file-name", "empty-file", "no-boundary"],
)
async def test_an_upload_without_a_picture_is_a_400(
    site: UploadSite, headers: dict[str, str], data: bytes
) -> None:
    reply = await site.post("upload", headers=headers, data=data)
    assert reply.status == 400
    assert reply.headers["access-control-allow-origin"] == "*"
    assert site.leftovers() == []
