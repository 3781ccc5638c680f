"""Published pictures: concurrent and repeated changes, new names, the image itself, expiry."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from PIL import Image

from orchestrator.model import AssetId
from tests.integration.uploads.conftest import (
    UploadSite,
    encoded,
    jpeg,
    open_uploads,
    until,
)
from tests.support.server_fixtures import S3Server, new_database

pytestmark = pytest.mark.asyncio(loop_scope="session")
CAMERA = Image.Exif()
CAMERA[0x010F] = "a camera"
CAMERA[0x0112] = 6
CAMERA.get_ifd(0x8825).update({1: "N", 2: (47.0, 30.0, 0.0), 3: "E", 4: (8.0, 0.0, 0.0)})


async def test_concurrent_publishes_with_other_crops_all_succeed(site: UploadSite) -> None:
    filename = await site.uploaded(jpeg())
    crops = [f"{width}x100+10+10" for width in range(100, 220, 10)]
    replies = await asyncio.gather(
        *(site.change("publish", filename=filename, crop=crop) for crop in crops)
    )
    assert [reply.status for reply in replies] == [200] * 12
    row = await site.row(filename)
    assert row is not None
    assert row.crop is not None
    assert f"{row.crop[2]}x{row.crop[3]}+{row.crop[0]}+{row.crop[1]}" in crops
    assert (await site.sizes(filename))[0] == row.crop[2:]
    for key in ("BI", "MI", "SI"):
        stored = site.services.stores.active
        async with stored.open(filename.replace(".", f"{key}.")) as stream:
            assert await stream.read() == (await site.version(filename, key)).body
    assert site.leftovers() == []


async def test_a_published_picture_is_an_image_at_once(site: UploadSite) -> None:
    filename = await site.published(jpeg(900, 700))
    name = filename.partition(".")[0]
    reply = await site.ask(f"/iiif/3/1%2F1%2F{name}/info.json")
    document = json.loads(reply.body)
    assert (reply.status, document["width"], document["height"]) == (200, 900, 700)
    tile = await site.ask(f"/iiif/3/1%2F1%2F{name}/0,0,256,256/256,256/0/default.jpg")
    assert (tile.status, tile.size) == (200, (256, 256))
    # Its place in the default space, under the name alone.
    assert (await site.ask(f"/iiif/3/{name}/info.json")).status == 200
    asset_id = AssetId(1, 1, name)

    async def is_converted() -> bool:
        asset = await site.site.services.catalog.assets.get(asset_id)
        return asset is not None and asset.state == "ready"

    await until(is_converted)
    tile = await site.ask(f"/iiif/3/1%2F1%2F{name}/256,0,256,256/256,256/0/default.jpg")
    assert (tile.status, tile.size) == (200, (256, 256))
    assert (await site.change("delete", filenames=filename)).status == 200
    assert await site.site.services.catalog.assets.get(asset_id) is None

    async def is_gone() -> bool:
        return (await site.ask(f"/iiif/3/1%2F1%2F{name}/info.json")).status == 404

    await until(is_gone)


async def test_recrop_publishes_a_copy_under_a_new_name(site: UploadSite) -> None:
    body = jpeg()
    filename = await site.published(body)
    reply = await site.change("recrop", filename=filename, crop="120x80+5+5")
    new = json.loads(reply.body)["filename"]
    assert (reply.status, new != filename) == (200, True)
    assert (await site.ask(f"/active/{new}")).body == body
    assert await site.sizes(new) == [(120, 80), (120, 80), (200, 200)]
    assert await site.sizes(filename) == [(426, 592), (288, 400), (200, 200)]
    info = await site.ask(f"/iiif/3/1%2F1%2F{new.partition('.')[0]}/info.json")
    assert info.status == 200
    assert await site.keys("incoming", new) == []


@pytest.mark.parametrize(
    ("rotation", "size", "orientation"),
    [("90", (592, 426), 6), ("", (592, 426), 6), ("-90", (592, 426), 8), ("180", (426, 592), 3)],
)
async def test_a_jpeg_is_turned_without_a_change_of_its_pixels(
    site: UploadSite, rotation: str, size: tuple[int, int], orientation: int
) -> None:
    body = jpeg()
    filename = await site.published(body)
    fields = {"rotation": rotation} if rotation else {}
    reply = await site.change("rotate", filename=filename, **fields)
    assert reply.status == 200
    new = json.loads(reply.body)["filename"]
    turned = (await site.ask(f"/active/{new}")).body
    picture = Image.open(io.BytesIO(turned))
    assert picture.getexif()[0x0112] == orientation
    assert picture.tobytes() == Image.open(io.BytesIO(body)).tobytes()
    assert (await site.version(new, "BI")).size == size
    assert (await site.ask(f"/active/{filename}")).status == 404
    assert await site.keys("active", filename) == []


async def test_a_png_is_turned_by_its_pixels_and_keeps_its_crop(site: UploadSite) -> None:
    picture = Image.new("RGB", (60, 40), "white")
    picture.paste("red", (0, 0, 20, 10))
    filename = await site.published(encoded(picture, "PNG"), crop="20x10+0+0")
    new = json.loads((await site.change("rotate", filename=filename)).body)["filename"]
    whole = Image.open(io.BytesIO((await site.ask(f"/active/{new}")).body)).convert("RGB")
    assert whole.size == (40, 60)
    assert whole.getpixel((39, 0)) == (255, 0, 0)
    version = Image.open(io.BytesIO((await site.version(new, "BI")).body)).convert("RGB")
    assert (version.size, version.getpixel((5, 5))) == ((10, 20), (255, 0, 0))


async def test_every_frame_of_an_animation_is_turned(site: UploadSite) -> None:
    frames = [Image.new("RGB", (30, 20), name) for name in ("red", "lime", "blue")]
    filename = await site.published(
        encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=80)
    )
    reply = await site.change("rotate", filename=filename, rotation="-90")
    new = json.loads(reply.body)["filename"]
    picture = Image.open(io.BytesIO((await site.ask(f"/active/{new}")).body))
    assert (picture.size, picture.n_frames) == ((20, 30), 3)  # type: ignore[attr-defined]
    assert (await site.version(new, "BI")).size == (20, 30)


async def test_what_cannot_be_turned_is_refused(site: UploadSite) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><path d="M0 0h9"/></svg>'
    filename = await site.published(svg)
    assert (await site.change("rotate", filename=filename)).status == 400
    assert (await site.change("rotate", filename=filename, rotation="45")).status == 400
    waiting = await site.uploaded(jpeg(20, 20))
    assert (await site.change("rotate", filename=waiting)).status == 404
    assert (await site.change("recrop", filename=waiting)).status == 404


async def test_delete_removes_everything_and_may_be_repeated(site: UploadSite) -> None:
    published, waiting = await site.published(jpeg(50, 40)), await site.uploaded(jpeg(50, 40))
    fields = [("filenames", published), ("filenames", waiting)]
    for _ in range(2):
        reply = await site.post("delete", data=[("secret", "a-secret-for-publishing"), *fields])
        assert reply.status == 200
    for filename in (published, waiting):
        assert await site.keys("active", filename) + await site.keys("incoming", filename) == []
        assert await site.row(filename) is None
        assert (await site.ask(f"/active/{filename}")).status == 404
        assert (await site.change("publish", filename=filename)).status == 404


async def test_versions_are_upright_and_say_nothing_about_the_place(site: UploadSite) -> None:
    body = jpeg(60, 40, exif=CAMERA)
    reply = json.loads((await site.upload(body)).body)
    assert (reply["width"], reply["height"]) == (40, 60)
    filename = reply["filename"]
    assert (await site.change("publish", filename=filename)).status == 200
    for name in ("BI", "MI", "SI"):
        version = Image.open(io.BytesIO((await site.version(filename, name)).body))
        assert dict(version.getexif()) == {}
        assert name == "SI" or version.size == (40, 60)
    original = (await site.ask(f"/active/{filename}")).body
    assert original == body
    assert Image.open(io.BytesIO(original)).getexif().get_ifd(0x8825)[1] == "N"


async def test_a_picture_that_another_program_stored_is_published_and_deleted(
    site: UploadSite,
) -> None:
    body, name = jpeg(300, 200), "1400000000_77"
    stores = site.services.stores
    await stores.incoming.put(
        f"{name}.jpg", body, media_type="image/jpeg", metadata=None, cache_control=""
    )
    assert (await site.change("publish", filename=f"{name}.jpg")).status == 200
    assert (await site.sizes(f"{name}.jpg"))[1] == (300, 200)
    old = "1400000000_78"
    for suffix in ("", "BI", "MI", "SI"):
        await stores.active.put(
            f"{old}{suffix}.jpg", body, media_type="image/jpeg", metadata=None, cache_control=""
        )
    assert (await site.ask(f"/active/{old}MI.jpg")).body == body
    assert (await site.change("publish", filename=f"{old}.jpg")).status == 200
    assert (await site.version(f"{old}.jpg", "MI")).body == body
    assert (await site.change("publish", filename=f"{old}.jpg", crop="50x50+0+0")).status == 200
    assert (await site.version(f"{old}.jpg", "BI")).size == (50, 50)
    assert (await site.change("delete", filenames=f"{old}.jpg")).status == 200
    assert await site.keys("active", old) == []


@pytest.mark.parametrize("storage", ["local", "s3"])
async def test_what_is_not_published_in_time_expires(
    storage: str, postgres: str, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, server = tmp_path_factory.mktemp("expiry"), s3_server if storage == "s3" else None
    dsn = await new_database(postgres)
    async with open_uploads(dsn, folder, server, expire_after_s=30) as site:
        waiting = await site.uploaded(jpeg(30, 20))
        kept = await site.published(jpeg(30, 20))
        async with site.site.services.catalog.connection() as connection:
            await connection.execute(
                "UPDATE uploads SET created = now() - interval '1 minute' WHERE key = $1", waiting
            )

        async def has_expired() -> bool:
            return await site.row(waiting) is None

        await until(has_expired)
        assert await site.keys("incoming", waiting) == []
        assert len(await site.keys("active", kept)) == 4
        assert (await site.change("publish", filename=waiting)).status == 404
        old = "1400000000_5"
        await site.services.stores.incoming.put(
            f"{old}BI.jpg", jpeg(9, 9), media_type="image/jpeg", metadata=None, cache_control=""
        )
        assert await site.services.sweeper.expire_unrecorded(older_s=3600) == 0
        # Other tests may have left pictures in the same bucket that this database does not know.
        assert await site.services.sweeper.expire_unrecorded(older_s=-5) >= 1
        assert await site.keys("incoming", old) == []
