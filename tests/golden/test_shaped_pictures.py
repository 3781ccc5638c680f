"""Pictures shaped by parameters, from the file to the encoded result: colours, orientation,
formats, compression, and originals that are returned as they are.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from orchestrator.errors import Damaged, NotAnImage, TooLarge, Unprocessable
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Probe
from orchestrator.settings import Ico, Imaging
from orchestrator.transform.parameters import parse_parameters
from orchestrator.transform.picture_shaper import PictureShaper, Result
from tests.golden.comparison import assert_alike, decode, reference
from tests.support import pictures
from tests.support.gif_files import Frame, gif

W, H = 500, 1000


@pytest.fixture
def shaper(pool: ImagingPool) -> PictureShaper:
    return PictureShaper(pool, Ico())


async def shaped(shaper: PictureShaper, path: Path, text: str) -> Result:
    return (await shaper.shape(path, parse_parameters(text), ""))[1]


def opened(result: Result) -> Image.Image:
    return Image.open(io.BytesIO(result.body))


@pytest.mark.parametrize(
    ("text", "region", "size"),
    [
        ("width=400,height=400,fit=clip", (0, 0, W, H), (200, 400)),
        ("width=400,height=400", (0, 500, W, 500), (400, 400)),
        ("width=400,height=400,crop=bottom", (0, 0, W, 500), (400, 400)),
        ("width=250", (0, 0, W, H), (250, 500)),
        ("width=300,height=90,crop=focus,focus=10:10:245:495", (0, 425, W, 150), (300, 90)),
    ],
)
@pytest.mark.parametrize("maker", [pictures.jpeg, pictures.png], ids=lambda maker: maker.__name__)
async def test_a_shape_shows_the_region_at_the_size(
    shaper: PictureShaper,
    gallery: Callable[..., Path],
    maker: Callable[..., Path],
    text: str,
    region: tuple[int, int, int, int],
    size: tuple[int, int],
) -> None:
    result = await shaped(shaper, gallery(maker, W, H), f"{text},quality=95")
    assert result.media_type == {"jpeg": "image/jpeg", "png": "image/png"}[maker.__name__]
    expected = reference(pictures.pattern(W, H), region, size)
    assert_alike(decode(result.body), expected, mean=5.0, p99=40.0)


@pytest.mark.parametrize("text", ["width=0", "width=501", "height=1000", "quality=5", "width=-1"])
@pytest.mark.parametrize(
    "maker", [pictures.jpeg, pictures.png, pictures.gif, pictures.webp], ids=lambda m: m.__name__
)
async def test_the_original_is_returned_byte_for_byte(
    shaper: PictureShaper, gallery: Callable[..., Path], maker: Callable[..., Path], text: str
) -> None:
    path = gallery(maker, W, H)
    result = await shaped(shaper, path, text)
    assert result.body == path.read_bytes()
    assert (result.is_original, result.media_type) == (True, f"image/{maker.__name__}")


async def test_a_picture_of_one_pixel_asked_at_65535_pixels_is_the_original(
    shaper: PictureShaper, tmp_path: Path
) -> None:
    path = pictures.png(tmp_path / "in.png", 1, 1)
    result = await shaped(shaper, path, "width=65535,height=65535")
    assert result.body == path.read_bytes()


async def test_a_photograph_that_was_taken_upright_comes_out_upright(
    shaper: PictureShaper, tmp_path: Path
) -> None:
    path = pictures.with_orientation(tmp_path / "in.jpg", W, H, 6)
    with Image.open(path) as stored:
        assert stored.size == (H, W)
    result = await shaped(shaper, path, "width=400,height=400,quality=95")
    assert not opened(result).getexif()
    expected = reference(pictures.pattern(W, H), (0, 500, W, 500), (400, 400))
    assert_alike(decode(result.body), expected, mean=5.0, p99=40.0)


async def test_inks_become_srgb(shaper: PictureShaper, tmp_path: Path) -> None:
    path = pictures.cmyk_jpeg(tmp_path / "in.jpg", W, H)
    image = opened(await shaped(shaper, path, "width=100"))
    assert (image.mode, image.size, "icc_profile" in image.info) == ("RGB", (100, 200), False)


async def test_the_quality_is_that_of_the_jpeg(
    shaper: PictureShaper, gallery: Callable[..., Path]
) -> None:
    path = gallery(pictures.jpeg, W, H)
    sizes = [len((await shaped(shaper, path, f"width=300,quality={q}")).body) for q in (5, 50, 95)]
    assert sizes[0] < sizes[1] < sizes[2]


async def test_the_quality_is_the_compression_of_a_png(
    shaper: PictureShaper, gallery: Callable[..., Path]
) -> None:
    path = gallery(pictures.png, W, H)
    results = {q: await shaped(shaper, path, f"width=300,quality={q}") for q in (1, 9, 10, 90, 100)}
    assert len(results[1].body) > 300 * 600 * 3  # not compressed
    assert results[1].body == results[9].body
    assert len(results[9].body) > len(results[10].body) > len(results[90].body)
    assert results[90].body == results[100].body
    assert np.array_equal(decode(results[1].body), decode(results[100].body))


async def test_a_smart_crop_keeps_the_subject(shaper: PictureShaper, tmp_path: Path) -> None:
    image = Image.new("RGB", (900, 300), (90, 100, 110))
    ImageDraw.Draw(image).ellipse((740, 120, 800, 180), fill=(230, 60, 40))
    image.save(tmp_path / "in.png")
    smart = decode(
        (await shaped(shaper, tmp_path / "in.png", "width=90,height=90,crop=smart")).body
    )
    plain = decode((await shaped(shaper, tmp_path / "in.png", "width=90,height=90")).body)
    assert int(smart[..., 0].max()) > 200
    assert int(plain[..., 0].max()) < 100


@pytest.mark.parametrize(
    ("text", "kind", "frames"),
    [
        ("width=20", "GIF", 3),
        ("width=20,frame=true", "GIF", 1),
        ("frame=true", "GIF", 1),
        ("width=20,format=webp", "WEBP", 3),
        ("width=20,format=jpeg", "JPEG", 1),
        ("width=20,format=png,frame=true", "PNG", 1),
    ],
)
async def test_an_animation_keeps_its_frames_where_the_format_can(
    shaper: PictureShaper, tmp_path: Path, text: str, kind: str, frames: int
) -> None:
    path = tmp_path / "in.gif"
    path.write_bytes(gif(40, 40, *[Frame(0, 0, 40, 40, colour) for colour in (1, 2, 3)]))
    image = opened(await shaped(shaper, path, text))
    assert (image.format, getattr(image, "n_frames", 1)) == (kind, frames)
    assert image.size == ((20, 20) if "width" in text else (40, 40))


@pytest.mark.parametrize(
    ("maker", "kind"),
    [(pictures.tiff, "JPEG"), (pictures.alpha_png, "PNG"), (pictures.jp2_tiled, "JPEG")],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_an_original_that_browsers_do_not_show_becomes_jpeg_or_png(
    shaper: PictureShaper, gallery: Callable[..., Path], maker: Callable[..., Path], kind: str
) -> None:
    assert opened(await shaped(shaper, gallery(maker, W, H), "width=50")).format == kind


@pytest.mark.parametrize("maker", [pictures.jpeg, pictures.png], ids=lambda m: m.__name__)
async def test_a_truncated_original_gives_no_picture(
    shaper: PictureShaper, tmp_path: Path, maker: Callable[..., Path]
) -> None:
    path = pictures.truncated(tmp_path / "cut", maker(tmp_path / "in", W, H), 0.6)
    with pytest.raises(Unprocessable):
        await shaped(shaper, path, "width=50")


async def test_a_truncated_animation_gives_no_picture(
    shaper: PictureShaper, tmp_path: Path
) -> None:
    path = tmp_path / "in.gif"
    path.write_bytes(gif(40, 40, *[Frame(0, 0, 40, 40, colour) for colour in (1, 2, 3)])[:-60])
    with pytest.raises(Damaged):
        await shaped(shaper, path, "width=20")


async def test_what_is_no_picture_or_too_large_is_refused(
    pool: ImagingPool, shaper: PictureShaper, tmp_path: Path
) -> None:
    (tmp_path / "page.jpg").write_text("<html>")
    with pytest.raises(NotAnImage):
        await shaped(shaper, tmp_path / "page.jpg", "width=50")
    path = pictures.jpeg(tmp_path / "in.jpg", W, H)
    with pytest.raises(TooLarge):
        await shaped(PictureShaper(pool, Ico(max_pixels=W * H - 1)), path, "width=50")


async def test_a_replaced_original_is_looked_at_again(
    shaper: PictureShaper, tmp_path: Path
) -> None:
    path = pictures.jpeg(tmp_path / "in.jpg", W, H)
    assert opened(await shaped(shaper, path, "width=100")).size == (100, 200)
    pictures.png(tmp_path / "other.png", H, W).replace(path)
    image = opened(await shaped(shaper, path, "width=100"))
    assert (image.format, image.size) == ("PNG", (100, 50))


async def test_an_original_is_probed_once(tmp_path: Path) -> None:
    class CountingPool(ImagingPool):
        probed = 0

        async def probe(self, path: Path) -> Probe:
            self.probed += 1
            return await super().probe(path)

    pool = CountingPool(Imaging(processes=1, threads=1))
    try:
        shaper = PictureShaper(pool, Ico())
        path = pictures.jpeg(tmp_path / "in.jpg", W, H)
        for width in (50, 100, 150):
            assert opened(await shaped(shaper, path, f"width={width}")).width == width
        assert pool.probed == 1
    finally:
        await pool.close()
