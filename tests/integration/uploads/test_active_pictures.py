"""`active/{key}`: conditions, ranges, caching, the hot lane, further formats, large files."""

from __future__ import annotations

import io
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image

from orchestrator.errors import CatalogUnavailable, NotFound
from orchestrator.uploads.active_pictures import ActivePictures
from tests.integration.uploads.conftest import UploadSite, encoded, jpeg, open_uploads, until
from tests.support.server_fixtures import S3Server, new_database

pytestmark = pytest.mark.asyncio(loop_scope="session")
PICTURES = Path(__file__).parents[2] / "pictures"


async def test_a_picture_has_validators_ranges_and_comes_from_memory(site: UploadSite) -> None:
    body = jpeg()
    filename = await site.published(body)
    path = f"/active/{filename}"
    first, second = await site.ask(path), await site.ask_for_memory(path)
    assert first.tier == "stored"
    assert first.body == second.body == body
    assert first.headers["etag"] == second.headers["etag"]
    assert (await site.ask(path, If_None_Match=first.headers["etag"])).status == 304
    assert (await site.ask(path, If_Modified_Since=first.headers["last-modified"])).status == 304
    part = await site.ask(path, Range="bytes=10-19")
    assert (part.status, part.body) == (206, body[10:20])
    head = await site.ask(path, "HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(body)), b"")
    assert second.headers["x-content-type-options"] == "nosniff"


async def test_a_change_is_seen_by_the_next_request(site: UploadSite) -> None:
    filename = await site.published(jpeg())
    for _ in range(2):
        assert (await site.version(filename, "BI")).size == (426, 592)
    await site.change("publish", filename=filename, crop="100x50+0+0")
    assert (await site.version(filename, "BI")).size == (100, 50)
    await site.change("delete", filenames=filename)
    assert (await site.ask(f"/active/{filename}")).status == 404


async def test_a_picture_comes_from_the_disk_cache_without_the_store(site: UploadSite) -> None:
    filename = await site.published(jpeg())
    assert (await site.version(filename, "MI")).tier == "stored"
    await site.site.until_published()
    await site.services.stores.active.delete([filename.replace(".", "MI.")])
    found = await site.services.pictures.get(filename.replace(".", "MI."))
    assert found.tier == "disk"
    # Under this name the hot lane finds the file when the body is no longer in memory.
    assert found.product is not None
    assert await site.site.services.derivatives.get(found.product) == found.body


async def test_versions_are_made_from_the_original_until_they_are_stored(site: UploadSite) -> None:
    filename = await site.published(jpeg())
    name = filename.partition(".")[0]
    rows = site.site.services.catalog.uploads
    # As after a process was killed between the switch and the versions.
    await rows.publish(name, (0, 0, 90, 60), ["BI", "MI", "SI"])
    await rows.announce_change(name)

    async def is_switched() -> bool:
        return (await site.version(filename, "BI")).size == (90, 60)

    await until(is_switched)
    assert await site.sizes(filename) == [(90, 60), (90, 60), (200, 200)]
    assert (await site.change("publish", filename=filename)).status == 200
    async with site.services.stores.active.open(f"{name}BI.jpg") as stream:
        assert Image.open(io.BytesIO(await stream.read())).size == (90, 60)


async def test_a_large_original_is_sent_in_parts(site: UploadSite) -> None:
    noise = Image.frombytes("RGB", (1700, 1700), random.Random(5).randbytes(1700 * 1700 * 3))
    body = encoded(noise, "PNG", compress_level=0)
    assert len(body) > 8 * 1024**2
    filename = await site.published(body)
    path = f"/active/{filename}"
    reply = await site.ask(path)
    is_same = reply.body == body  # compared here: pytest would print both
    assert is_same
    assert reply.headers["content-type"] == "image/png"
    assert reply.headers["access-control-allow-origin"] == "*"
    part = await site.ask(path, Range="bytes=-1000")
    assert (part.status, part.body == body[-1000:]) == (206, True)
    assert (await site.ask(path, If_None_Match=reply.headers["etag"])).status == 304
    head = await site.ask(path, "HEAD")
    assert (head.status, head.headers["content-length"]) == (200, str(len(body)))
    assert (await site.ask(path, Range=f"bytes={len(body)}-")).status == 416


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["local", "s3"])
async def modern(
    request: pytest.FixtureRequest,
    postgres: str,
    s3_server: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[UploadSite]:
    server = s3_server if request.param == "s3" else None
    dsn = await new_database(postgres)
    folder = tmp_path_factory.mktemp("modern")
    formats = {"background_formats": ["webp", "avif"], "formats": ["webp", "tiff", "heic", "avif"]}
    async with open_uploads(dsn, folder, server, **formats) as opened:
        yield opened


async def test_further_formats_are_made_in_the_background(modern: UploadSite) -> None:
    filename = await modern.published(jpeg())
    path = f"/active/{filename.replace('.', 'MI.')}"
    plain = await modern.ask(path)
    assert (plain.headers["content-type"], plain.headers["vary"]) == ("image/jpeg", "Accept")

    async def has(form: str, accept: str) -> bool:
        reply = await modern.ask(path, Accept=accept)
        return reply.headers["content-type"] == f"image/{form}"

    await until(lambda: has("avif", "image/avif,image/webp,*/*"))
    await until(lambda: has("webp", "image/webp,*/*"))
    webp = await modern.ask_for_memory(path, Accept="image/webp,*/*")
    assert Image.open(io.BytesIO(webp.body)).size == (288, 400)
    assert (await modern.ask(path)).headers["content-type"] == "image/jpeg"
    assert (await modern.ask(path.replace("jpg", "webp"))).status == 200
    # Another crop drops them until they are made again.
    await modern.change("publish", filename=filename, crop="64x64+0+0")
    assert (await modern.ask(path, Accept="image/webp")).size == (64, 64)

    async def is_made_again() -> bool:
        reply = await modern.ask(path, Accept="image/webp")
        return reply.headers["content-type"] == "image/webp" and reply.size == (64, 64)

    await until(is_made_again)
    await modern.change("delete", filenames=filename)
    assert await modern.keys("active", filename) == []


async def test_optional_formats_are_accepted_if_configured(modern: UploadSite) -> None:
    red = Image.new("RGB", (50, 30), "red")
    for body, extension, media_type in (
        (encoded(red, "WEBP"), "webp", "image/webp"),
        (encoded(red, "TIFF"), "tif", "image/tiff"),
        ((PICTURES / "h_heic.heic").read_bytes(), "heic", "image/heic"),
        ((PICTURES / "h_avif.avif").read_bytes(), "avif", "image/avif"),
    ):
        filename = await modern.published(body)
        assert filename.endswith(f".{extension}")
        assert (await modern.ask(f"/active/{filename}")).headers["content-type"] == media_type
        base = filename.partition(".")[0]
        version = await modern.ask(f"/active/{base}MI.jpg")
        assert (version.status, Image.open(io.BytesIO(version.body)).format) == (200, "JPEG")
        assert (await modern.ask(f"/iiif/3/{base}/info.json")).status == 200


class NoRows:
    """The table of a database that does not answer."""

    async def get(self, _name: str) -> None:
        raise CatalogUnavailable("away")


async def test_published_pictures_are_read_without_the_database(site: UploadSite) -> None:
    filename = await site.published(jpeg())
    services = site.site.services
    pictures = ActivePictures(
        stores=site.services.stores,
        files=site.services.files,
        maker=site.services.maker,
        rows=NoRows(),  # type: ignore[arg-type]  # only this method is used
        derivatives=services.derivatives,
        flights=services.flights,
        open_folder=services.scratch.folder,
    )
    found = await pictures.get(filename)
    assert (found.body == jpeg(), found.is_recorded) == (True, False)
    with pytest.raises(NotFound):
        await pictures.get("1500000000_0.jpg")
