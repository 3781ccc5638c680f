"""Animations: every frame as Pillow draws it, delays, loop, transparency; what is refused."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from orchestrator.errors import Damaged, TooLarge, Unsupported
from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging
from tests.golden.comparison import a_recipe, assert_alike
from tests.support import pictures
from tests.support.gif_files import Frame, gif

W, H = 200, 120
DELAYS = (30, 500, 70, 120)
RED, BLUE = 2, 3
Frames = list[NDArray[np.uint8]]


def moving(path: Path, *, loop: int | None = 0, kind: str = "GIF", delays: object = DELAYS) -> Path:
    """A disc that moves over a transparent background, above a green ground."""
    frames = []
    for n in range(len(DELAYS)):
        image = Image.new("RGBA", (W, H), (0, 0, 0, 0))
        draw = ImageDraw.Draw(image)
        draw.ellipse((10 + 40 * n, 10, 60 + 40 * n, 60), fill=(250, 20 + 60 * n, 0, 255))
        draw.rectangle((0, 90, W, H), fill=(0, 120, 0, 255))
        frames.append(image)
    options = {} if loop is None else {"loop": loop}
    first, *others = frames
    first.save(path, kind, save_all=True, append_images=others, duration=delays, disposal=2,
               lossless=True, **options)  # fmt: skip
    return path


def changing(path: Path) -> Path:
    """A photograph of which each further frame replaces a part: partial frames, no transparency."""
    base = pictures.picture(W, H).quantize(64, dither=Image.Dither.NONE)
    frames = [base]
    for n in range(1, 4):
        frames.append(frames[-1].copy())
        frames[-1].paste(n, (30 * n, 20, 30 * n + 25, 60))
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:], duration=40, loop=0)
    return path


def frames_of(body: bytes) -> Frames:
    """All frames as RGBA, as Pillow draws them."""
    image = Image.open(io.BytesIO(body))
    found = []
    for n in range(getattr(image, "n_frames", 1)):
        image.seek(n)
        found.append(np.asarray(image.convert("RGBA")))
    return found


def delays_of(body: bytes) -> list[int]:
    image = Image.open(io.BytesIO(body))
    delays = []
    for n in range(image.n_frames):  # type: ignore[attr-defined]  # of the formats with frames
        image.seek(n)
        image.load()
        delays.append(image.info["duration"])
    return delays


def scaled(frame: NDArray[np.uint8], region: tuple[int, ...], size: tuple[int, int]) -> Image.Image:
    x, y, w, h = region
    # Premultiplied, so that the colours of transparent pixels do not count.
    part = Image.fromarray(np.ascontiguousarray(frame[y : y + h, x : x + w])).convert("RGBa")
    return part.resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def on_gray(frame: object) -> NDArray[np.uint8]:
    """`frame` on gray: a transparent pixel has no colour of its own."""
    image = frame if isinstance(frame, Image.Image) else Image.fromarray(np.asarray(frame))
    ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
    return np.asarray(Image.alpha_composite(ground, image).convert("RGB"))


@pytest.mark.parametrize("maker", [moving, changing], ids=lambda maker: maker.__name__)
@pytest.mark.parametrize(
    ("region", "size"),
    [((0, 0, W, H), (W, H)), ((0, 0, W, H), (67, 40)), ((25, 5, 120, 100), (60, 50))],
    ids=["whole", "smaller", "a part"],
)
async def test_every_frame_is_that_part_of_the_frame_that_pillow_draws(
    pool: ImagingPool,
    tmp_path: Path,
    maker: object,
    region: tuple[int, int, int, int],
    size: tuple[int, int],
) -> None:
    path = maker(tmp_path / "in.gif")  # type: ignore[operator]
    probe = await pool.probe(path)
    body = await pool.animate(a_recipe(path, probe, region=region, size=size, format="gif"))
    actual, expected = frames_of(body), frames_of(path.read_bytes())
    assert len(actual) == len(expected) == probe.pages
    for shown, drawn in zip(actual, expected, strict=True):
        # The transparency of a GIF has one bit: an edge of a few pixels differs.
        assert_alike(on_gray(shown), on_gray(scaled(drawn, region, size)), mean=6.0, p99=140.0)
        assert set(np.unique(shown[..., 3])) <= {0, 255}


@pytest.mark.parametrize("loop", [None, 0, 1, 7])
async def test_delays_and_loop_are_kept(
    pool: ImagingPool, tmp_path: Path, loop: int | None
) -> None:
    path = moving(tmp_path / "in.gif", loop=loop)
    body = await pool.animate(a_recipe(path, await pool.probe(path), size=(50, 30), format="gif"))
    assert delays_of(body) == list(DELAYS)
    assert Image.open(io.BytesIO(body)).info.get("loop") == loop


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
async def test_an_animation_becomes_webp_with_all_frames(
    pool: ImagingPool, tmp_path: Path, kind: str
) -> None:
    path = moving(tmp_path / "in", loop=3, kind=kind, delays=list(DELAYS))
    probe = await pool.probe(path)
    body = await pool.animate(a_recipe(path, probe, size=(100, 60), format="webp"))
    image = Image.open(io.BytesIO(body))
    assert (image.format, image.size) == ("WEBP", (100, 60))
    # A GIF says how often it is repeated, a WebP how often it is shown.
    assert image.info["loop"] == {"GIF": 4, "WEBP": 3}[kind]
    assert delays_of(body) == list(DELAYS)
    for shown, drawn in zip(frames_of(body), frames_of(path.read_bytes()), strict=True):
        expected = on_gray(scaled(drawn, (0, 0, W, H), (100, 60)))
        assert_alike(on_gray(shown), expected, mean=6.0, p99=60.0)


async def test_what_no_frame_covers_is_transparent(pool: ImagingPool, tmp_path: Path) -> None:
    path = tmp_path / "in.gif"
    path.write_bytes(gif(8, 8, Frame(0, 0, 4, 4, RED), Frame(4, 4, 4, 4, BLUE)))
    body = await pool.animate(a_recipe(path, await pool.probe(path), format="gif"))
    first, second = frames_of(body)
    assert first[0, 0].tolist() == second[0, 0].tolist() == [255, 0, 0, 255]
    assert first[7, 7].tolist()[3] == 0
    assert second[7, 7].tolist() == [0, 0, 255, 255]
    assert second[0, 7].tolist()[3] == 0


async def test_the_last_pixel_of_a_frame_without_an_end_code_is_shown(
    pool: ImagingPool, tmp_path: Path
) -> None:
    path = tmp_path / "in.gif"
    path.write_bytes(gif(8, 8, Frame(0, 0, 8, 8, RED), Frame(0, 0, 8, 8, BLUE), end_code=False))
    body = await pool.animate(a_recipe(path, await pool.probe(path), format="gif"))
    assert [frame[7, 7].tolist() for frame in frames_of(body)] == [
        [255, 0, 0, 255],
        [0, 0, 255, 255],
    ]


async def test_equal_frames_are_shown_as_long_as_before(pool: ImagingPool, tmp_path: Path) -> None:
    path = tmp_path / "in.gif"
    path.write_bytes(gif(8, 8, *[Frame(0, 0, 8, 8, RED)] * 3, Frame(0, 0, 8, 8, BLUE)))
    body = await pool.animate(a_recipe(path, await pool.probe(path), size=(4, 4), format="gif"))
    # libvips 8.15 and 8.16 combine them
    assert delays_of(body) in ([100, 100, 100, 100], [300, 100])


async def test_an_animation_that_ends_within_a_frame_is_damaged(
    pool: ImagingPool, tmp_path: Path
) -> None:
    path = changing(tmp_path / "in.gif")
    recipe = a_recipe(path, await pool.probe(path), size=(50, 30), format="gif")
    whole, body = path.read_bytes(), await pool.animate(recipe)
    for part in (0.3, 0.6, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(Damaged):
            await pool.animate(recipe)
    path.write_bytes(whole[:-1])  # only the end marker is missing
    assert await pool.animate(recipe) == body


async def test_ten_thousand_frames_are_refused_before_any_is_decoded(
    pool: ImagingPool, tmp_path: Path
) -> None:
    path = tmp_path / "in.gif"
    path.write_bytes(gif(400, 400, *[Frame(0, 0, 2, 2, RED)] * 10_000))
    started = time.process_time()
    with pytest.raises(TooLarge):
        await pool.probe(path)
    assert time.process_time() - started < 1
    path.write_bytes(gif(9, 9, *[Frame(0, 0, 2, 2, RED)] * 2))
    recipe = a_recipe(path, await pool.probe(path), format="gif")
    path.write_bytes(gif(9, 9, *[Frame(0, 0, 2, 2, RED)] * 10_000))  # replaced after the probe
    with pytest.raises(TooLarge, match="frames"):
        await pool.animate(recipe)


async def test_the_pixels_of_all_frames_together_are_limited(tmp_path: Path) -> None:
    pool = ImagingPool(Imaging(processes=1, threads=1, max_pixels=100_000))
    try:
        path = tmp_path / "in.gif"
        path.write_bytes(gif(200, 200, *[Frame(0, 0, 2, 2, RED)] * 3))
        recipe = a_recipe(path, await pool.probe(path), size=(2, 2), format="gif")
        with pytest.raises(TooLarge, match="100000 pixels"):
            await pool.animate(recipe)
    finally:
        await pool.close()


async def test_a_result_of_too_many_pixels_is_refused(pool: ImagingPool, tmp_path: Path) -> None:
    path = tmp_path / "in.gif"
    path.write_bytes(gif(9, 9, *[Frame(0, 0, 2, 2, RED)] * 3))
    recipe = a_recipe(path, await pool.probe(path), size=(9000, 9000), format="gif")
    with pytest.raises(TooLarge, match="result"):
        await pool.animate(recipe)


async def test_only_gif_and_webp_are_animated(pool: ImagingPool, tmp_path: Path) -> None:
    path = pictures.jpeg(tmp_path / "in.jpg", 90, 70)
    with pytest.raises(Unsupported):
        await pool.animate(a_recipe(path, await pool.probe(path), format="gif"))


@pytest.mark.parametrize("place", [(60, 60), (540, 60), (300, 200), (60, 340), (540, 340)], ids=str)
@pytest.mark.parametrize("orientation", [1, 6])
async def test_attention_is_drawn_to_the_subject(
    pool: ImagingPool, tmp_path: Path, place: tuple[int, int], orientation: int
) -> None:
    image = Image.new("RGB", (600, 400), (90, 100, 110))
    x, y = place
    ImageDraw.Draw(image).ellipse((x - 30, y - 30, x + 30, y + 30), fill=(230, 60, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    if orientation == 6:  # stored turned to the left
        image = image.transpose(Image.Transpose.ROTATE_90)
    path = tmp_path / "in.jpg"
    image.save(path, "JPEG", quality=95, exif=exif)
    found = await pool.attention(path, await pool.probe(path))
    assert abs(found[0] - x) <= 40
    assert abs(found[1] - y) <= 40


async def test_attention_of_a_single_pixel_is_that_pixel(pool: ImagingPool, tmp_path: Path) -> None:
    path = pictures.png(tmp_path / "in.png", 1, 1)
    assert await pool.attention(path, await pool.probe(path)) == (0, 0)
