"""Broken and hostile files: the error is precise, the worker survives, nothing is fetched, and
memory use is bounded.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from tifffile import TiffFile

from orchestrator.errors import NotAnImage, TooLarge, Unprocessable, Unsupported
from orchestrator.imaging import FASTEST, Recipe
from orchestrator.imaging.pool import ImagingPool
from tests.golden.comparison import a_recipe, decode
from tests.support import pictures

W, H = 1001, 703


@pytest.mark.parametrize(
    "maker",
    [pictures.jpeg, pictures.progressive_jpeg, pictures.png, pictures.tiff, pictures.pyramid_tiff,
     pictures.jp2_tiled, pictures.jp2_untiled, pictures.webp, pictures.gif],
    ids=lambda maker: maker.__name__,
)  # fmt: skip
@pytest.mark.parametrize("part", [0.01, 0.5, 0.9])
async def test_an_incomplete_file_is_an_error_and_never_black_pixels(
    pool: ImagingPool, tmp_path: Path, maker: Callable[..., Path], part: float
) -> None:
    whole = maker(tmp_path / "whole", W, H)
    facts = await pool.probe(whole)
    cut = pictures.truncated(tmp_path / "cut", whole, part)
    try:
        body = await pool.render(a_recipe(cut, facts))
    except Unprocessable:
        with pytest.raises(Unprocessable):
            await pool.convert(cut, tmp_path / "out.tif", FASTEST)
    else:  # the missing bytes were not needed, such as the smaller levels of a pyramid
        assert body == await pool.render(a_recipe(whole, facts))
        assert maker is pictures.pyramid_tiff
    assert len(await pool.render(a_recipe(whole, facts))) > 1000


@pytest.mark.parametrize(
    "maker",
    [pictures.jpeg, pictures.png, pictures.jp2_tiled, pictures.jp2_untiled],
    ids=lambda maker: maker.__name__,
)
async def test_a_damaged_file_is_refused_or_decoded_at_full_size(
    pool: ImagingPool, tmp_path: Path, maker: Callable[..., Path]
) -> None:
    whole = maker(tmp_path / "whole", W, H)
    facts = await pool.probe(whole)
    body = bytearray(whole.read_bytes())
    body[len(body) // 2 : len(body) // 2 + 400] = bytes(400)
    (tmp_path / "bad").write_bytes(bytes(body))
    try:
        actual = decode(await pool.render(a_recipe(tmp_path / "bad", facts)))
    except Unprocessable:
        return
    assert actual.shape == (H, W, 3)


@pytest.mark.parametrize(
    "bomb",
    [
        pictures.png_bomb,
        pictures.gif_bomb,
        pictures.svg_bomb,
        pictures.jp2_bomb,
        pictures.tiff_bomb,
    ],
    ids=lambda maker: maker.__name__,
)
async def test_a_picture_whose_header_has_enormous_dimensions_is_refused_without_decoding(
    pool: ImagingPool, tmp_path: Path, bomb: Callable[..., Path]
) -> None:
    path = bomb(tmp_path / "bomb")
    before = psutil.Process().memory_info().rss
    with pytest.raises((TooLarge, Unprocessable)):
        await pool.probe(path)
    with pytest.raises((TooLarge, Unprocessable)):
        await pool.convert(path, tmp_path / "out.tif", FASTEST)
    assert psutil.Process().memory_info().rss - before < 30_000_000
    assert all(psutil.Process(pid).memory_info().rss < 300_000_000 for pid in pool.pids)


@pytest.mark.parametrize(
    ("maker", "kind"),
    [
        pytest.param(lambda path: pictures.html_as_jpeg(path), NotAnImage, id="html"),
        pytest.param(
            lambda path: pictures.bmp(path, 10, 10), Unsupported, id="bmp, which ImageMagick reads"
        ),
        pytest.param(
            lambda path: pictures.ico(path, 16, 16), Unsupported, id="ico, which ImageMagick reads"
        ),
        pytest.param(lambda path: path.touch() or path, NotAnImage, id="empty"),
    ],
)
async def test_a_file_that_is_no_picture_is_refused_with_any_name(
    pool: ImagingPool, tmp_path: Path, maker: Callable[[Path], Path], kind: type[Unprocessable]
) -> None:
    path = maker(tmp_path / "photo.jpg")
    with pytest.raises(kind, match="supported"):
        await pool.probe(path)
    with pytest.raises(kind, match="supported"):
        await pool.render(Recipe(str(path), "original", (10, 10), 0, (0, 0, 10, 10), (10, 10)))  # type: ignore[arg-type]


async def test_a_stored_tile_that_is_no_picture_is_never_served(
    pool: ImagingPool, tmp_path: Path
) -> None:
    path = pictures.pyramid_tiff(tmp_path / "p.tif", 600, 600)
    facts = await pool.probe(path)
    recipe = a_recipe(path, facts, region=(0, 0, 256, 256), size=(256, 256), format="jpg")
    assert (await pool.render(recipe))[:2] == b"\xff\xd8"
    body = bytearray(path.read_bytes())
    # Not the first tile in the file: libvips 8.16 writes tiles in any order.
    with TiffFile(path) as tiff:
        start = tiff.pages[0].dataoffsets[0]
    body[start : start + 40] = b"<script>alert(1)</script>".ljust(40)
    path.write_bytes(bytes(body))
    with pytest.raises(Unprocessable):
        await pool.render(recipe)


async def test_a_gif_with_too_many_frames_is_refused(pool: ImagingPool, tmp_path: Path) -> None:
    body = bytearray(pictures.gif(tmp_path / "one.gif", 8, 8).read_bytes())
    start = body.index(b"\x2c")
    frame = bytes(body[start:-1])
    path = tmp_path / "many.gif"
    path.write_bytes(bytes(body[:start]) + frame * 101 + b"\x3b")
    with pytest.raises(TooLarge):
        await pool.probe(path)


@pytest.fixture
def web_server() -> Iterator[tuple[str, list[str]]]:
    """The address of a web server, and the paths that were requested from it."""
    requested: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/leak.png", requested
    server.shutdown()
    server.server_close()
    thread.join()


async def test_an_svg_with_external_references_fetches_nothing(
    pool: ImagingPool, tmp_path: Path, web_server: tuple[str, list[str]]
) -> None:
    address, requested = web_server
    path = pictures.svg_with_external_references(tmp_path / "a.svg", address)
    try:
        facts = await pool.probe(path)
        actual = decode(await pool.render(a_recipe(path, facts, format="jpg")))
        assert actual.min() > 250
    except Unprocessable:
        pass
    assert requested == []


async def test_an_svg_cannot_show_a_local_file(pool: ImagingPool, tmp_path: Path) -> None:
    secret = pictures.png(tmp_path / "secret.png", 100, 100)
    for address in (secret.as_uri(), str(secret), "secret.png"):
        path = tmp_path / "a.svg"
        path.write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="200" height="100"><rect width="200" height="100" fill="white"/>'
            f'<image width="100" height="100" xlink:href="{address}"/></svg>'
        )
        facts = await pool.probe(path)
        actual = decode(await pool.render(a_recipe(path, facts, format="jpg")))
        assert actual.min() > 250


async def test_the_worker_keeps_running_after_it_refused_files(
    pool: ImagingPool, tmp_path: Path
) -> None:
    good = pictures.jp2_untiled(tmp_path / "good", 300, 200)
    await pool.probe(good)
    before = pool.pids
    for n in range(5):
        bad = pictures.truncated(tmp_path / f"bad{n}", good, 0.1 + n / 10)
        with pytest.raises(Unprocessable):
            await pool.convert(bad, tmp_path / "out", FASTEST)
    assert pool.pids == before
