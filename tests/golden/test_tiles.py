"""Every tile that an info document advertises looks like that part of the picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

from orchestrator.imaging.pool import ImagingPool
from orchestrator.model import SourceKind
from tests.golden.comparison import a_recipe, advertised_tiles, assert_alike, decode, reference
from tests.support import pictures
from tests.support.scenes import scene

KINDS = (
    pictures.jp2_tiled,
    pictures.jp2_untiled,
    pictures.pyramid_tiff,
    pictures.jpeg,
    pictures.png,
    pictures.tiff,
)
SIZES = ((1, 1), (3, 7), (7, 300), (257, 255), (256, 512), (1001, 703), (703, 1003))


@pytest.mark.parametrize("maker", KINDS, ids=lambda maker: maker.__name__)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_every_advertised_tile_is_that_part_of_the_picture(
    pool: ImagingPool,
    gallery: Callable[..., Path],
    maker: Callable[..., Path],
    size: tuple[int, int],
) -> None:
    path = gallery(maker, *size)
    probe = await pool.probe(path)
    assert probe.dimensions == size
    truth = pictures.pattern(*size)
    for region, tile in advertised_tiles(probe):
        body = await pool.render(a_recipe(path, probe, region=region, size=tile))
        assert_alike(decode(body), reference(truth, region, tile), mean=5.0, p99=48.0)


PHOTO = (1337, 1201)
"""In one piece more than a tile of which all packets are read."""


def _photo_jp2(path: Path, **options: Any) -> Path:
    picture = Image.fromarray(scene(*PHOTO, seed=4, grain=2.0).numpy())
    values = {"irreversible": True, "quality_mode": "dB", "quality_layers": [45], "mct": 1}
    picture.save(path, "JPEG2000", progression="RPCL", plt=True, **values, **options)
    return path


def _photo_tiff(path: Path) -> Path:
    options = {"tile": True, "pyramid": True, "tile_width": 256, "tile_height": 256, "Q": 92}
    scene(*PHOTO, seed=4, grain=2.0).tiffsave(str(path), compression="jpeg", **options)
    return path


PHOTOS: dict[str, Callable[[Path], Path]] = {
    "jp2 tiled": lambda path: _photo_jp2(path, tile_size=(512, 512)),
    "jp2 untiled": lambda path: _photo_jp2(path, precinct_size=(128, 128)),
    "tif": _photo_tiff,
}


@pytest.mark.parametrize("name", PHOTOS)
async def test_all_tiles_of_a_scale_together_are_the_resampled_picture_without_seams(
    pool: ImagingPool, tmp_path: Path, name: str
) -> None:
    """Against the whole picture decoded by another library and resampled by Pillow."""
    path = PHOTOS[name](tmp_path / "photo")
    probe = await pool.probe(path)
    with Image.open(path) as image:
        whole = np.asarray(image.convert("RGB"))
    edge = probe.tile_width
    for n in (0, 2):
        width, height = (-(-side >> n) for side in probe.dimensions)
        stitched = np.zeros((height, width, 3), np.uint8)
        for region, (w, h) in advertised_tiles(probe, n):
            body = await pool.render(a_recipe(path, probe, region=region, size=(w, h)))
            left, top = region[0] >> n, region[1] >> n
            stitched[top : top + h, left : left + w] = decode(body)
        expected = reference(whole, (0, 0, *probe.dimensions), (width, height))
        difference = np.abs(stitched.astype(int) - expected.astype(int)).mean(axis=2)
        assert difference.mean() <= 2.0, n
        columns = [x for x in range(edge - 1, width) if (x + 1) % edge < 2]
        rows = [y for y in range(edge - 1, height) if (y + 1) % edge < 2]
        borders = np.concatenate([difference[:, columns].ravel(), difference[rows].ravel()])
        if len(borders):
            assert borders.mean() <= 1.25 * difference.mean() + 0.25, n


async def test_neighbouring_tiles_have_no_seam(
    pool: ImagingPool, gallery: Callable[..., Path]
) -> None:
    path = gallery(pictures.jp2_untiled, 1001, 703)
    probe = await pool.probe(path)
    whole = decode(await pool.render(a_recipe(path, probe)))
    left = decode(
        await pool.render(a_recipe(path, probe, region=(0, 0, 300, 703), size=(300, 703)))
    )
    right = decode(
        await pool.render(a_recipe(path, probe, region=(300, 0, 701, 703), size=(701, 703)))
    )
    assert (whole[:, :300] == left).all()
    assert (whole[:, 300:] == right).all()


async def test_the_kinds_of_sources_are_recognised(
    pool: ImagingPool, gallery: Callable[..., Path]
) -> None:
    probes = {
        maker.__name__: (await pool.probe(gallery(maker, 1001, 703)))
        for maker in (
            pictures.jp2_tiled,
            pictures.jp2_untiled,
            pictures.pyramid_tiff,
            pictures.tiff,
        )
    }
    assert {
        name: (p.kind, p.natively_tiled, p.tile_width, p.levels) for name, p in probes.items()
    } == {
        "jp2_tiled": (SourceKind.JPEG2000, True, 512, 1),
        "jp2_untiled": (SourceKind.JPEG2000, False, 512, 1),
        "pyramid_tiff": (SourceKind.PYRAMID_TIFF, True, 256, 2),
        "tiff": (SourceKind.ORIGINAL, False, 256, 2),
    }


async def test_tiles_of_a_large_codestream_are_correct_when_the_decoder_stays_open(
    pool: ImagingPool, gallery: Callable[..., Path]
) -> None:
    """The file is too large to be decoded whole, so one decoder reads several areas."""
    path = gallery(pictures.jp2_untiled, 2050, 1030)
    probe = await pool.probe(path)
    truth = pictures.pattern(2050, 1030)
    for _ in range(2):
        for region, tile in advertised_tiles(probe):
            body = await pool.render(a_recipe(path, probe, region=region, size=tile))
            assert_alike(decode(body), reference(truth, region, tile), mean=5.0, p99=48.0)


@pytest.mark.parametrize("bands", [1, 3], ids=["gray", "colour"])
@pytest.mark.parametrize("quality", [75, 95], ids=["subsampled", "full colour"])
async def test_stored_tiles_are_served_without_encoding_them_again(
    pool: ImagingPool, tmp_path: Path, bands: int, quality: int
) -> None:
    truth = pictures.pattern(1001, 703)
    image = pyvips.Image.new_from_array(truth if bands == 3 else truth[..., :1])
    path = tmp_path / "p.tif"
    image.copy(interpretation="srgb" if bands == 3 else "b-w").tiffsave(
        str(path),
        tile=True,
        pyramid=True,
        compression="jpeg",
        Q=quality,
        tile_width=256,
        tile_height=256,
    )
    probe = await pool.probe(path)
    stored = path.read_bytes()
    served_as_stored = 0
    for region, tile in advertised_tiles(probe):
        body = await pool.render(a_recipe(path, probe, region=region, size=tile, format="jpg"))
        expected = reference(truth, region, tile)
        actual = decode(body)
        assert_alike(actual, expected if bands == 3 else expected[..., 0], mean=6.0, p99=48.0)
        served_as_stored += body[-200:] in stored
    assert served_as_stored == 3 * 2 + 1 * 1  # whole tiles of 1001x703 and 500x351


async def test_other_qualities_and_rotations_of_a_stored_tile_are_rendered(
    pool: ImagingPool, gallery: Callable[..., Path]
) -> None:
    path = gallery(pictures.pyramid_tiff, 1001, 703)
    probe = await pool.probe(path)
    region = (0, 0, 256, 256)
    cases: list[dict[str, Any]] = [
        {"quality": "gray"},
        {"rotation": 90.0},
        {"mirror": True},
        {"format": "webp"},
    ]
    for changes in cases:
        recipe = a_recipe(
            path, probe, **{"region": region, "size": (256, 256), "format": "jpg", **changes}
        )
        assert (await pool.render(recipe))[-200:] not in path.read_bytes()
