"""Pyramid TIFFs by their policy: levels, tiles, resolution and colours as asked, also for programs
that are not ours (vips, tiffinfo, iipsrv). Every tile is that part of the original.
"""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import pyvips
from PIL import Image

from orchestrator.errors import TooLarge
from orchestrator.imaging import FASTEST, ConversionPolicy
from orchestrator.imaging import pyramid_check as checking
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.pyramid_maker import make_pyramids, pyramid_name
from orchestrator.ingest.pyramid_policies import POLICIES, policy_of
from orchestrator.model import SourceKind
from orchestrator.settings import Imaging, Pyramids
from tests.golden.comparison import a_recipe, advertised_tiles, assert_alike, decode, reference
from tests.support import pictures
from tests.support.reference_servers import iipsrv
from tests.support.serve_process import fetch

PARITY = POLICIES["parity"]
SIZE = (530, 389)
FORMS = {
    "jpeg": FASTEST,
    "jpeg of quality 50": replace(FASTEST, quality=50, tile=512),
    "deflate": replace(PARITY.conversion, limits=None),
    "webp in a BigTIFF": replace(FASTEST, compression="webp", always_big=True),
    "webp in sub-directories": replace(FASTEST, compression="webp", subifd=True),
    "zstd in sub-directories": replace(
        FASTEST, compression="zstd", tile=128, subifd=True, always_big=True, resolution=4.0
    ),
}
EACH = pytest.mark.parametrize("policy", FORMS.values(), ids=FORMS.keys())
LEVELS = ((530, 389), (265, 194), (132, 97), (66, 48))
LOSSLESS = ("deflate", "zstd")


@asynccontextmanager
async def a_pool(**limits: Any) -> AsyncIterator[ImagingPool]:
    pool = ImagingPool(Imaging(processes=1, **limits))
    try:
        yield pool
    finally:
        await pool.close()


def tiff_directories(path: Path) -> list[dict[str, str]]:
    """What tiffinfo prints of each image of the file, sub-directories too."""
    text = subprocess.run(
        ["tiffinfo", str(path)], capture_output=True, text=True, check=True
    ).stdout
    images = []
    for part in text.split("TIFF Directory at offset")[1:]:
        found = re.findall(r"(Image Width|Tile Width|Resolution|Compression Scheme): (.+)", part)
        images.append(dict(found))
    return images


def sides(path: Path) -> list[str]:
    return [each["Image Width"] for each in tiff_directories(path)]


@EACH
async def test_other_programs_find_the_levels_tiles_and_resolution_as_asked(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path, policy: ConversionPolicy
) -> None:
    original = gallery(pictures.png, *SIZE)
    target = tmp_path / "pyramid.tif"
    facts = await pool.pyramids.write(original, target, policy)
    images = tiff_directories(target)
    assert [each["Image Width"] for each in images] == [
        f"{width} Image Length: {height}" for width, height in facts.levels
    ]
    assert facts.levels == LEVELS[: len(facts.levels)]
    assert max(facts.levels[-1]) <= policy.tile < max(facts.levels[-2])
    assert {each["Tile Width"] for each in images} == {f"{policy.tile} Tile Length: {policy.tile}"}
    scheme = {"jpeg": "JPEG", "deflate": "AdobeDeflate", "webp": "WEBP", "zstd": "ZSTD"}
    assert {each["Compression Scheme"] for each in images} == {scheme[policy.compression]}
    assert target.read_bytes()[2:4] == (b"+\0" if policy.always_big else b"*\0")
    if policy.resolution:
        per_cm = f"{policy.resolution * 10:g}"
        assert {each["Resolution"] for each in images} == {f"{per_cm}, {per_cm} pixels/cm"}
    assert (facts.compression, facts.is_big) == (policy.compression, policy.always_big)
    assert (facts.has_subifds, facts.bytes) == (policy.subifd, target.stat().st_size)
    for n, level in enumerate(facts.levels):
        words = f"subifd={n - 1}" if policy.subifd and n else f"page={0 if policy.subifd else n}"
        copy = tmp_path / f"level-{n}.png"
        subprocess.run(["vips", "copy", f"{target}[{words}]", str(copy)], check=True)
        picture = np.asarray(Image.open(copy))
        assert picture.shape[1::-1] == level
        wanted = reference(pictures.pattern(*SIZE), (0, 0, *SIZE), level)
        assert_alike(picture, wanted, mean=6.0, p99=60.0)


@EACH
async def test_every_tile_is_that_part_of_the_original(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path, policy: ConversionPolicy
) -> None:
    target = tmp_path / "pyramid.tif"
    facts = await pool.pyramids.write(gallery(pictures.png, *SIZE), target, policy)
    probe = facts.probe
    assert (probe.kind, probe.tile_width) == (SourceKind.PYRAMID_TIFF, policy.tile)
    truth = pictures.pattern(*SIZE)
    for region, size in advertised_tiles(probe):
        body = await pool.render(a_recipe(target, probe, region=region, size=size))
        if policy.compression in LOSSLESS and region[2:] == size:
            assert (decode(body) == reference(truth, region, size)).all()
        assert_alike(decode(body), reference(truth, region, size), mean=6.0, p99=60.0)


async def test_iipsrv_cuts_the_same_tiles(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path
) -> None:
    truth = pictures.pattern(*SIZE)
    for name, policy in FORMS.items():
        # Version 1.1 of iipsrv serves sub-directories at full scale only.
        if not policy.subifd:
            path = tmp_path / f"{policy.compression}-{policy.quality}.tif"
            facts = await pool.pyramids.write(gallery(pictures.png, *SIZE), path, policy)
            assert facts.probe.dimensions == SIZE, name
    with iipsrv(tmp_path, processes=1, quality=95) as prefix:
        for path in sorted(tmp_path.glob("*.tif")):
            for region, size in [
                ((0, 0, 512, 256), (256, 128)),
                ((256, 256, 256, 133), (256, 133)),
            ]:
                place = ",".join(map(str, region))
                url = f"{prefix}/{quote(path.name, safe='')}/{place}/{size[0]},/0/default.jpg"
                body = fetch(url, timeout_s=60).body
                assert_alike(decode(body), reference(truth, region, size), mean=6.0, p99=60.0)


SIZES = [
    ((3000, 2900), True, [(579, 560), (289, 280)]),
    ((700, 600), True, [(653, 560), (326, 280)]),
    ((900, 600), True, [(840, 560), (420, 280)]),
    ((843, 560), True, [(843, 560), (421, 280)]),
    ((6000, 4500), False, [(4000, 3000), (2000, 1500), (1000, 750), (500, 375)]),
    ((100, 4100), False, [(98, 4000), (49, 2000), (24, 1000), (12, 500)]),
    ((640, 480), False, [(640, 480), (320, 240)]),
]


@pytest.mark.parametrize(("size", "is_copyrighted", "levels"), SIZES, ids=str)
async def test_the_parity_policy_fits_pictures_into_its_limits(
    pool: ImagingPool, tmp_path: Path, size: tuple[int, int], is_copyrighted: bool,
    levels: list[tuple[int, int]],
) -> None:  # fmt: skip
    shade = pyvips.Image.xyz(*size) * (200 / max(size))
    picture = shade.bandjoin(shade[0]).cast("uchar").copy(interpretation="srgb")
    picture.jpegsave(str(tmp_path / "original.jpg"), Q=95)
    (made,) = await make_pyramids(
        pool, tmp_path / "original.jpg", PARITY, tmp_path, is_copyrighted=is_copyrighted
    )
    assert sides(made.path) == [f"{width} Image Length: {height}" for width, height in levels]
    image = tiff_directories(made.path)[0]
    assert image["Resolution"] == "118.12, 118.12 pixels/cm"
    assert image["Tile Width"] == "512 Tile Length: 512"
    assert (made.dimensions, made.levels, made.page) == (levels[0], len(levels), 0)


@pytest.mark.parametrize("maker", [pictures.jpeg, pictures.png, pictures.jp2_tiled])
@pytest.mark.parametrize("limits", [(500, 500), (320, 200), (1024, 900)], ids=str)
async def test_a_reduced_picture_has_the_pixels_of_the_original(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path,
    maker: Callable[..., Path], limits: tuple[int, int],
) -> None:  # fmt: skip
    target, size = tmp_path / "pyramid.tif", (1600, 1200)
    policy = replace(FASTEST, limits=limits, compression="deflate")
    facts = await pool.pyramids.write(gallery(maker, *size), target, policy)
    actual = decode(await pool.render(a_recipe(target, facts.probe)))
    wanted = reference(pictures.pattern(*size), (0, 0, *size), facts.probe.dimensions)
    assert_alike(actual, wanted, mean=3.0, p99=30.0)


@pytest.mark.parametrize("limits", [None, (200, 200)], ids=["full size", "reduced"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
async def test_a_picture_is_stored_upright_or_as_it_is(
    pool: ImagingPool, tmp_path: Path, orientation: int, limits: tuple[int, int] | None
) -> None:
    original = pictures.with_orientation(tmp_path / "o.jpg", 301, 203, orientation)
    for autorotate in (True, False):
        target = tmp_path / f"{autorotate}.tif"
        policy = replace(FASTEST, autorotate=autorotate, limits=limits, tile=128)
        facts = await pool.pyramids.write(original, target, policy)
        assert facts.probe.orientation == (1 if autorotate else orientation)
        assert facts.probe.dimensions == ((200, 135) if limits else (301, 203))
        actual = decode(await pool.render(a_recipe(target, facts.probe)))
        wanted = reference(pictures.pattern(301, 203), (0, 0, 301, 203), facts.probe.dimensions)
        assert_alike(actual, wanted, mean=6.0, p99=40.0)


async def test_colours_become_srgb_or_are_kept_with_their_profile(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path
) -> None:
    original = gallery(pictures.cmyk_jpeg, 400, 300)
    for srgb, kind, bands in [(True, "srgb", 3), (False, "cmyk", 4)]:
        for compression in ("jpeg", "deflate"):
            policy = replace(FASTEST, srgb=srgb, compression=compression)
            target = tmp_path / f"{kind}-{compression}.tif"
            await pool.pyramids.write(original, target, policy)
            written = pyvips.Image.tiffload(str(target))
            assert (written.interpretation, written.bands) == (kind, bands)
    profile = tmp_path / "p3.png"
    picture = pyvips.Image.new_from_array(pictures.pattern(300, 200)).copy(interpretation="srgb")
    picture.icc_transform("p3", input_profile="srgb").pngsave(str(profile))
    for srgb in (True, False):
        target = tmp_path / f"{srgb}.tif"
        facts = await pool.pyramids.write(profile, target, replace(FASTEST, srgb=srgb))
        written = pyvips.Image.tiffload(str(target))
        assert bool(written.get_typeof("icc-profile-data")) is not srgb
        actual = decode(await pool.render(a_recipe(target, facts.probe)))
        assert_alike(actual, pictures.pattern(300, 200), mean=6.0, p99=40.0)


async def test_no_metadata_of_the_original_is_kept(pool: ImagingPool, tmp_path: Path) -> None:
    picture = pyvips.Image.new_from_array(pictures.pattern(300, 200)).copy(interpretation="srgb")
    picture.set_type(pyvips.GValue.gstr_type, "image-description", "a secret place")
    picture.set_type(pyvips.GValue.blob_type, "xmp-data", b"<x>a secret name</x>")
    picture.tiffsave(str(tmp_path / "o.tif"))
    assert (tmp_path / "o.tif").read_bytes().count(b"secret") == 2
    for n, policy in enumerate((FASTEST, replace(FASTEST, srgb=False, autorotate=False))):
        target = tmp_path / f"{n}.tif"
        await pool.pyramids.write(tmp_path / "o.tif", target, policy)
        assert b"secret" not in target.read_bytes()


@pytest.mark.parametrize(
    ("maker", "policy", "compression", "bits"),
    [
        (pictures.png_16, FASTEST, "jpeg", 8),
        (pictures.png_16, replace(FASTEST, lossless=True), "deflate", 16),
        (pictures.png_16, replace(FASTEST, lossless=True, compression="zstd"), "zstd", 16),
        (pictures.png, replace(FASTEST, compression="webp", lossless=True), "webp", 8),
        (pictures.gray_jpeg, replace(FASTEST, compression="webp"), "webp", 8),
        (pictures.alpha_png, FASTEST, "deflate", 8),
        (pictures.alpha_png, replace(FASTEST, compression="webp"), "webp", 8),
        (pictures.palette_png, replace(FASTEST, compression="zstd"), "zstd", 8),
        (pictures.one_bit_png, replace(FASTEST, compression="webp"), "webp", 8),
        (pictures.gif, replace(FASTEST, compression="webp", srgb=False), "webp", 8),
    ],
)
async def test_each_compression_takes_every_kind_of_picture(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path,
    maker: Callable[..., Path], policy: ConversionPolicy, compression: str, bits: int,
) -> None:  # fmt: skip
    original, target = gallery(maker, 300, 200), tmp_path / "pyramid.tif"
    facts = await pool.pyramids.write(original, target, policy)
    assert (facts.compression, facts.probe.bits) == (compression, bits)
    assert facts.probe.kind is SourceKind.PYRAMID_TIFF
    wanted = await pool.render(a_recipe(original, await pool.probe(original), format="webp"))
    actual = await pool.render(a_recipe(target, facts.probe, format="webp"))
    rgba = [np.asarray(Image.open(io.BytesIO(body)).convert("RGBA")) for body in (actual, wanted)]
    weighted = [(each * (each[..., 3:] / 255.0)).astype(np.uint8) for each in rgba]
    assert_alike(*weighted, mean=6.0, p99=60.0)


async def test_every_page_of_a_pdf_becomes_a_pyramid_at_the_resolution_asked(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path
) -> None:
    original = gallery(pictures.pdf, 360, 288)
    policy = policy_of(Pyramids(pdf_dpi=300))
    made = await make_pyramids(pool, original, policy, tmp_path)
    assert [(each.page, each.dimensions) for each in made] == [(n, (1500, 1200)) for n in (1, 2, 3)]
    assert [each.facts.compression for each in made] == ["jpeg"] * 3
    corners = [
        decode(await pool.render(a_recipe(each.path, each.facts.probe)))[1100, 100].tolist()
        for each in made
    ]
    for corner, colour in zip(corners, [(255, 0, 0), (0, 255, 0), (0, 255, 0)], strict=True):
        assert np.abs(np.subtract(corner, colour)).max() < 12
    (tmp_path / "parity").mkdir()
    (first,) = await make_pyramids(pool, original, PARITY, tmp_path / "parity")
    assert (first.page, first.dimensions, first.levels) == (0, (360, 288), 1)
    assert [pyramid_name("a", page) for page in (0, 1, 12)] == ["a.tif", "a_0001.tif", "a_0012.tif"]


async def test_a_file_that_is_what_the_policy_asks_for_is_copied(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path
) -> None:
    original, copy = tmp_path / "first.tif", tmp_path / "copy.tif"
    await pool.pyramids.write(gallery(pictures.png, *SIZE), original, FASTEST)
    await pool.pyramids.write(original, copy, FASTEST)
    assert copy.read_bytes() == original.read_bytes()
    for change in ({"tile": 512}, {"resolution": 9.0}, {"limits": (300, 300)}, {"subifd": True}):
        policy = replace(FASTEST, **change)
        facts = await pool.pyramids.write(original, tmp_path / "other.tif", policy)
        assert checking.shortcoming(facts, policy) == ""
        assert (tmp_path / "other.tif").read_bytes() != original.read_bytes()


async def test_a_pdf_of_too_many_pages_or_pixels_is_refused(tmp_path: Path) -> None:
    original = pictures.pdf(tmp_path / "o.pdf", 360, 288)
    async with a_pool(max_frames=2) as pool:
        with pytest.raises(TooLarge):
            await make_pyramids(pool, original, POLICIES["default"], tmp_path)
    async with a_pool(max_pixels=1_000_000) as pool:
        with pytest.raises(TooLarge):
            await make_pyramids(pool, original, policy_of(Pyramids(pdf_dpi=300)), tmp_path)
