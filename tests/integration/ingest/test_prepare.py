"""Source and thumbnails of every kind of picture, made by the real imaging workers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pyvips
from PIL import Image

from orchestrator.errors import NoRoom, OrchestratorError, TooLarge, Unprocessable
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.policies import OptimisationPolicy, Policies, ThumbnailPolicy
from orchestrator.ingest.prepare import Prepared, Recipes, prepare
from orchestrator.model import Dimensions, SourceKind
from orchestrator.settings import Imaging, Ingest
from tests.support import pictures

pytestmark = pytest.mark.asyncio(loop_scope="session")
POLICIES = Policies(Ingest())
SMALL = ThumbnailPolicy("small", (100, 50))
AS_IT_IS = OptimisationPolicy("use-original", None)


def black(path: Path, width: int, height: int, **options: Any) -> Path:
    """A large picture that is made fast."""
    image = pyvips.Image.black(width, height, bands=3).copy(interpretation="srgb")
    image.write_to_file(str(path), **options)
    return path


async def prepared(
    imaging: ImagingPool, original: Path, folder: Path, policy: str = "fastest"
) -> Prepared:
    folder.mkdir(exist_ok=True)
    recipes = Recipes(await POLICIES.optimisation(1, policy), SMALL)
    return await prepare(imaging, original, recipes, folder)


KINDS: list[tuple[Callable[..., Path], str]] = [
    (pictures.jpeg, "jpg"),
    (pictures.progressive_jpeg, "jpg"),
    (pictures.gray_jpeg, "jpg"),
    (pictures.cmyk_jpeg, "jpg"),
    (pictures.png, "png"),
    (pictures.png_16, "png"),
    (pictures.alpha_png, "png"),
    (pictures.palette_png, "png"),
    (pictures.one_bit_png, "png"),
    (pictures.tiff, "tif"),
    (pictures.tiff_16, "tif"),
    (pictures.cmyk_tiff, "tif"),
    (pictures.one_bit_tiff, "tif"),
    (pictures.multi_page_tiff, "tif"),
    (pictures.webp, "webp"),
    (pictures.gif, "gif"),
    (pictures.animated_gif, "gif"),
    (pictures.svg, "svg"),
]


@pytest.mark.parametrize("policy", ["fastest", "fast-lossy"])
@pytest.mark.parametrize(("make", "extension"), KINDS, ids=[make.__name__ for make, _ in KINDS])
async def test_every_kind_of_picture_becomes_tile_ready_with_thumbnails(
    imaging: ImagingPool, tmp_path: Path, make: Any, extension: str, policy: str
) -> None:
    original = make(tmp_path / f"original.{extension}", 300, 200)
    made = await prepared(imaging, original, tmp_path / "work", policy)
    assert made.probe.dimensions == (300, 200)
    assert made.probe.kind is not SourceKind.ORIGINAL
    assert not made.is_original
    assert sizes_on_disk(made) == [(100, 67), (50, 33)]


@pytest.mark.parametrize(
    ("make", "extension", "kind"),
    [
        (pictures.jp2_tiled, "jp2", SourceKind.JPEG2000),
        (pictures.jp2_untiled, "jp2", SourceKind.JPEG2000),
        (pictures.pyramid_tiff, "tif", SourceKind.PYRAMID_TIFF),
    ],
    ids=["tiled jpeg2000", "untiled jpeg2000", "pyramid tiff"],
)
async def test_a_tile_ready_file_is_used_as_it_is(
    imaging: ImagingPool, tmp_path: Path, make: Any, extension: str, kind: SourceKind
) -> None:
    original = make(tmp_path / f"original.{extension}", 1200, 900)
    made = await prepared(imaging, original, tmp_path / "work")
    assert made.is_original
    assert made.source == original
    assert made.probe.kind is kind
    assert made.probe.natively_tiled is (make is not pictures.jp2_untiled)
    assert sizes_on_disk(made) == [(100, 75), (50, 38)]


async def test_a_pdf_is_ingested_as_its_first_page(imaging: ImagingPool, tmp_path: Path) -> None:
    original = pictures.pdf(tmp_path / "original.pdf", 300, 200)
    made = await prepared(imaging, original, tmp_path / "work")
    assert made.probe.kind is SourceKind.PYRAMID_TIFF
    assert made.probe.dimensions == (625, 417)  # 150 dots an inch
    corner = Image.open(made.thumbnails[0].path).convert("RGB").getpixel((5, 60))
    assert isinstance(corner, tuple)
    assert corner[0] > 200 > 100 > corner[1]  # red: page 1


async def test_use_original_makes_thumbnails_only(imaging: ImagingPool, tmp_path: Path) -> None:
    original = pictures.jpeg(tmp_path / "original.jpg", 300, 200)
    made = await prepared(imaging, original, tmp_path / "work", "use-original")
    assert made.source == original
    assert made.probe.kind is SourceKind.ORIGINAL
    assert sizes_on_disk(made) == [(100, 67), (50, 33)]


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_exif_orientation_is_applied_to_source_and_thumbnails(
    imaging: ImagingPool, tmp_path: Path, orientation: int
) -> None:
    original = pictures.with_orientation(tmp_path / "original.jpg", 300, 200, orientation)
    made = await prepared(imaging, original, tmp_path / "work")
    assert made.probe.dimensions == (300, 200)
    assert sizes_on_disk(made) == [(100, 67), (50, 33)]
    upright = Image.fromarray(pictures.pattern(300, 200)).resize((100, 67))
    for point in ((10, 10), (90, 10), (10, 60), (90, 60)):
        seen = Image.open(made.thumbnails[0].path).getpixel(point)
        meant = upright.getpixel(point)
        assert isinstance(seen, tuple)
        assert isinstance(meant, tuple)
        assert max(abs(a - b) for a, b in zip(seen, meant, strict=True)) < 40


@pytest.mark.parametrize(
    ("dimensions", "entry", "expected"),
    [
        ((3000, 2000), "!1024,1024", (1024, 683)),
        ((1609, 2398), "!1000,1000", (671, 1000)),
        ((1609, 2398), "1000,", (1000, 1490)),
        ((1609, 2398), ",1000", (671, 1000)),
        ((5000, 3333), "400,", (400, 267)),
        ((1000, 900), "!400,200", (222, 200)),
        ((1000, 300), "!1200,200", (667, 200)),
        ((300, 1000), "!200,1200", (200, 667)),
        ((800, 600), "!1024,1024", (800, 600)),
        ((800, 600), "^1024,", (1024, 768)),
        ((800, 600), "^!1024,1024", (1024, 768)),
        ((90, 60), "!100,100", (90, 60)),
        ((3, 7000), "!100,100", (1, 100)),
        ((1, 1), 100, (1, 1)),
    ],
)
async def test_thumbnails_have_the_sizes_of_the_golden_vectors(
    imaging: ImagingPool, tmp_path: Path, dimensions: Dimensions, entry: int | str, expected: Any
) -> None:
    original = black(tmp_path / "original.png", *dimensions)
    recipes = Recipes(AS_IT_IS, ThumbnailPolicy("one", (entry,)))
    work = tmp_path / "work"
    work.mkdir()
    made = await prepare(imaging, original, recipes, work)
    assert sizes_on_disk(made) == [expected]


async def test_a_picture_of_one_pixel_has_one_thumbnail(
    imaging: ImagingPool, tmp_path: Path
) -> None:
    original = pictures.png(tmp_path / "original.png", 1, 1)
    made = await prepared(imaging, original, tmp_path / "work")
    assert sizes_on_disk(made) == [(1, 1)]


async def test_sizes_of_the_same_longest_edge_are_made_once(
    imaging: ImagingPool, tmp_path: Path
) -> None:
    original = pictures.png(tmp_path / "original.png", 400, 200)
    same = ThumbnailPolicy("same", (100, "100,", "!100,100", "!100,51"))
    recipes = Recipes(AS_IT_IS, same)
    work = tmp_path / "work"
    work.mkdir()
    assert sizes_on_disk(await prepare(imaging, original, recipes, work)) == [(100, 50)]


HOSTILE: list[tuple[Callable[..., Path], str, type[OrchestratorError]]] = [
    (pictures.png_bomb, "png", TooLarge),
    (pictures.gif_bomb, "gif", TooLarge),
    (pictures.svg_bomb, "svg", TooLarge),
    (pictures.jp2_bomb, "jp2", TooLarge),
    (pictures.tiff_bomb, "tif", TooLarge),
    (pictures.html_as_jpeg, "jpg", Unprocessable),
]


@pytest.mark.parametrize(
    ("make", "extension", "error"), HOSTILE, ids=[make.__name__ for make, _, _ in HOSTILE]
)
async def test_a_hostile_file_is_refused_with_a_named_error_and_no_damage(
    imaging: ImagingPool, tmp_path: Path, make: Any, extension: str, error: type[OrchestratorError]
) -> None:
    with pytest.raises(error):
        await prepared(imaging, make(tmp_path / f"original.{extension}"), tmp_path / "work")
    good = pictures.jpeg(tmp_path / "good.jpg", 60, 40)
    assert sizes_on_disk(await prepared(imaging, good, tmp_path / "after")) == [(60, 40), (50, 33)]


@pytest.mark.parametrize(
    ("make", "extension"),
    [
        (pictures.jpeg, "jpg"),
        (pictures.png, "png"),
        (pictures.tiff, "tif"),
        (pictures.webp, "webp"),
        (pictures.jp2_tiled, "jp2"),
    ],
)
async def test_a_truncated_file_is_refused(
    imaging: ImagingPool, tmp_path: Path, make: Any, extension: str
) -> None:
    whole = make(tmp_path / f"whole.{extension}", 800, 600)
    original = pictures.truncated(tmp_path / f"original.{extension}", whole, 0.5)
    with pytest.raises(Unprocessable):
        await prepared(imaging, original, tmp_path / "work")


def sizes_on_disk(made: Prepared) -> list[Dimensions]:
    """The sizes promised, after a look at the files."""
    for thumbnail in made.thumbnails:
        with Image.open(thumbnail.path) as image:
            assert image.format == "JPEG"
            assert image.size == thumbnail.size
    return [thumbnail.size for thumbnail in made.thumbnails]


async def test_an_original_that_cannot_be_served_well_is_converted_by_every_policy(
    tmp_path: Path,
) -> None:
    original = black(tmp_path / "large.png", 4000, 3300)
    pool = ImagingPool(Imaging(processes=1, memory_limit=640 * 1024**2))  # keeps 10 megapixels
    recipes = Recipes(AS_IT_IS, SMALL)
    try:
        for name, keep_original in (("converted", False), ("kept", True)):
            (tmp_path / name).mkdir()
            made = await prepare(
                pool, original, recipes, tmp_path / name, keep_original=keep_original
            )
            assert made.original.needs_conversion
            assert made.is_original == keep_original
            expected = SourceKind.ORIGINAL if keep_original else SourceKind.PYRAMID_TIFF
            assert made.probe.kind is expected
            assert sizes_on_disk(made) == [(100, 83), (50, 41)]
    finally:
        await pool.close()


async def test_scratch_space_for_the_decoded_pixels_is_required_before_a_conversion(
    imaging: ImagingPool, tmp_path: Path
) -> None:
    original = black(tmp_path / "large.tif", 8000, 6000, compression="deflate")
    asked: list[int] = []

    async def refuse(expected_bytes: int) -> None:
        asked.append(expected_bytes)
        raise NoRoom("Full.")

    recipes = Recipes(await POLICIES.optimisation(1, "fastest"), SMALL)
    with pytest.raises(NoRoom):
        await prepare(imaging, original, recipes, tmp_path, check_room=refuse)
    assert asked == [8000 * 6000 * 3]
