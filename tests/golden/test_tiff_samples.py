"""Samples of every kind of TIFF become the right pixels, or are refused with the property named.

The reference values are the numbers that the files were made of (numpy), or come from lcms and
libjpeg (by Pillow) and from tiff2rgba of libtiff.
"""

from __future__ import annotations

import asyncio
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from orchestrator.errors import Damaged, TooLarge, Unsupported
from orchestrator.imaging.pool import ImagingPool
from tests.golden.comparison import a_recipe, decode
from tests.support import tiff_files as tiffs

DEPTHS = [
    *((bits, "minisblack", {}) for bits in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 24, 32)),
    *((bits, "miniswhite", {}) for bits in (2, 5, 8, 12, 16, 32)),
    *((bits, "rgb", {}) for bits in (4, 8, 10, 12, 16, 32)),
    *((bits, "rgb", {"planarconfig": "separate"}) for bits in (8, 16, 32)),
    *((bits, "rgb", {"planarconfig": "separate", "tile": (32, 32)}) for bits in (8, 16)),
    (12, "minisblack", {"tile": (32, 32)}),
    (8, "rgb", {"compression": "zlib", "predictor": True}),
    (16, "rgb", {"compression": "lzw", "predictor": True, "tile": (32, 32)}),
    *((8, "rgb", {"compression": name}) for name in ("packbits", "zstd", "webp", "lzma", "lerc")),
    *((8, "rgb", {"compression": "jpeg2000", "tile": tile}) for tile in (None, (32, 32))),
    (16, "minisblack", {"compression": "jpeg2000"}),
    (8, "rgb", {"compression": "png"}),
    (8, "rgb", {"compression": "jpegxr"}),
]


async def render(pool: ImagingPool, path: Path) -> NDArray[np.float64]:
    """The picture at full size, (height, width, bands), from 0 to 1."""
    probe = await pool.probe(path)
    pixels = decode(await pool.render(a_recipe(path, probe)))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    assert pixels.shape[:2] == (probe.height, probe.width)
    return pixels / (65535 if pixels.dtype != np.uint8 else 255)


@pytest.mark.parametrize(("bits", "photometric", "options"), DEPTHS, ids=str)
async def test_unsigned_integers_of_any_depth_use_their_full_range(
    pool: ImagingPool, tmp_path: Path, bits: int, photometric: str, options: dict[str, Any]
) -> None:
    channels = 3 if photometric == "rgb" else 1
    truth = tiffs.ramps(channels=channels)
    array = tiffs.integers(truth, bits)
    depth = {} if bits in (8, 16, 32) else {"bitspersample": bits}
    path = tiffs.write(tmp_path / "t.tif", array, photometric=photometric, **depth, **options)
    stored = array / (2**bits - 1)
    expected = 1 - stored if photometric == "miniswhite" else stored
    bound = {"webp": 0.2, "jpegxr": 0.1}.get(options.get("compression", ""), 0.006)
    assert np.abs(await render(pool, path) - expected).max() <= bound


@pytest.mark.parametrize("tile", [None, (32, 32)], ids=["strips", "tiles"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
async def test_one_bit_is_black_or_white(
    pool: ImagingPool, tmp_path: Path, photometric: str, tile: tuple[int, int] | None
) -> None:
    bits = tiffs.ramps(channels=1)[..., 0] > 0.5
    path = tiffs.write(tmp_path / "t.tif", bits, photometric=photometric, tile=tile)
    expected = bits if photometric == "minisblack" else ~bits
    assert (await render(pool, path))[..., 0].tolist() == expected.tolist()


@pytest.mark.parametrize("bits", [8, 16])
async def test_a_palette_is_applied(pool: ImagingPool, tmp_path: Path, bits: int) -> None:
    colours = (tiffs.ramps(2**bits, 1)[0].T * 65535).astype(np.uint16)
    colours[1] = colours[0] ** 2 // 65535
    indices = tiffs.integers(tiffs.ramps(channels=1)[..., 0], bits)
    path = tiffs.write(tmp_path / "t.tif", indices, photometric="palette", colormap=colours)
    expected = colours.T[indices] / 65535
    assert np.abs(await render(pool, path) - expected).max() < 0.006


RANGES = [
    pytest.param("int8", (-128, 127), (-128, 127), id="int8 uses its type"),
    pytest.param("int16", (-32000, 32000), (-32768, 32767), id="int16 uses its type"),
    pytest.param("int16", (0, 32000), (0, 32767), id="int16 without negatives"),
    pytest.param("int16", (-430, 8848), (-430, 8848), id="int16 in a part of its type"),
    pytest.param("uint32", (900_000_000, 4_294_967_295), (0, 2**32 - 1), id="uint32 uses its type"),
    pytest.param("uint32", (10, 5000), (10, 5000), id="uint32 in a part of its type"),
    pytest.param("int32", (-70_000, 80_000), (-70_000, 80_000), id="int32"),
    pytest.param("int64", (-(10**12), 10**12), (-(10**12), 10**12), id="int64"),
    pytest.param("uint64", (0, 10**15), (0, 10**15), id="uint64"),
    pytest.param("float32", (0.2, 0.9), (0, 1), id="float in 0 to 1"),
    pytest.param("float64", (-3.5, 12.25), (-3.5, 12.25), id="float in its own range"),
    pytest.param("float16", (0, 1), (0, 1), id="half float"),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "values", "span"), RANGES)
async def test_other_samples_use_the_range_of_their_type_or_of_the_picture(
    pool: ImagingPool,
    tmp_path: Path,
    channels: int,
    kind: str,
    values: tuple[float, float],
    span: tuple[float, float],
) -> None:
    array = (tiffs.ramps(channels=channels) * (values[1] - values[0]) + values[0]).astype(kind)
    photometric = "rgb" if channels == 3 else "minisblack"
    path = tiffs.write(tmp_path / "t.tif", array, photometric=photometric)
    expected = (array.astype(float) - span[0]) / (span[1] - span[0])
    assert np.abs(await render(pool, path) - expected).max() < 0.006


@pytest.mark.parametrize("kind", ["float32", "int32", "uint32"])
async def test_a_declared_range_is_black_to_white(
    pool: ImagingPool, tmp_path: Path, kind: str
) -> None:
    array = (tiffs.ramps(channels=1) * 1000).astype(kind)
    declared = [(340, "d", 1, 200.0, False), (341, "d", 1, 700.0, False)]
    path = tiffs.write(tmp_path / "t.tif", array, photometric="minisblack", extratags=declared)
    expected = np.clip((array.astype(float) - 200) / 500, 0, 1)
    assert np.abs(await render(pool, path) - expected).max() < 0.006


async def test_values_that_are_no_numbers_and_no_data_are_black_and_not_in_the_range(
    pool: ImagingPool, tmp_path: Path
) -> None:
    array = (tiffs.ramps(channels=1) * 50 + 10).astype(np.float32)
    array[0, :5], array[1, :5], array[2, :5] = np.nan, -9999, np.inf
    no_data = [(42113, "s", 0, "-9999", False)]
    path = tiffs.write(tmp_path / "t.tif", array, photometric="minisblack", extratags=no_data)
    pixels = (await render(pool, path))[..., 0]
    assert pixels[:2, :5].max() == 0
    assert pixels[2, :5].min() == 1
    assert abs(pixels[30, 35] - (array[30, 35, 0] - 10) / 50) < 0.006


EXTRAS = [
    pytest.param(["unspecified"], None, id="one of unknown meaning"),
    pytest.param(["unspecified", "unspecified"], None, id="two of unknown meaning"),
    pytest.param(["unassalpha"], 0, id="alpha"),
    pytest.param(["unassalpha", "unspecified"], 0, id="alpha first"),
    pytest.param(["unspecified", "unassalpha"], 1, id="alpha last"),
]


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(("extras", "alpha"), EXTRAS)
async def test_only_the_channel_declared_as_alpha_is_transparency(
    pool: ImagingPool,
    tmp_path: Path,
    bits: int,
    planar: str,
    extras: list[str],
    alpha: int | None,
) -> None:
    truth = tiffs.ramps(channels=3 + len(extras))
    path = tiffs.write(
        tmp_path / "t.tif",
        tiffs.integers(truth, bits),
        photometric="rgb",
        planarconfig=planar,
        extrasamples=extras,
        **({} if bits != 12 else {"bitspersample": 12}),
    )
    channels = [0, 1, 2] if alpha is None else [0, 1, 2, 3 + alpha]
    assert np.abs(await render(pool, path) - truth[..., channels]).max() < 0.006


@pytest.mark.parametrize("photometric", ["minisblack", "rgb", "separated"])
@pytest.mark.parametrize("rows", [50, 16])
async def test_planes_in_several_strips_are_put_together(
    pool: ImagingPool, tmp_path: Path, photometric: str, rows: int
) -> None:
    """libvips 8.14 repeats the first row of gray planes."""
    colours = {"minisblack": 1, "rgb": 3, "separated": 4}[photometric]
    array = tiffs.integers(tiffs.ramps(channels=colours + 1), 8)
    options = {"photometric": photometric, "extrasamples": ["unspecified"], "rowsperstrip": rows}
    path = tiffs.write(tmp_path / "t.tif", array, planarconfig="separate", **options)
    same = tiffs.write(tmp_path / "s.tif", array, planarconfig="contig", **options)
    pixels = await render(pool, path)
    assert pixels.tolist() == (await render(pool, same)).tolist()
    if photometric != "separated":
        assert np.abs(pixels - array[..., :colours] / 255).max() < 0.003


@pytest.mark.parametrize(
    "extras",
    [["assocalpha"], ["unspecified", "assocalpha"], ["assocalpha", "unspecified"]],
    ids=str,
)
@pytest.mark.parametrize("colours", [1, 3], ids=["gray", "RGB"])
@pytest.mark.parametrize("bits", [8, 16, 32])
async def test_associated_alpha_is_divided_out_once(
    pool: ImagingPool, tmp_path: Path, bits: int, colours: int, extras: list[str]
) -> None:
    straight = tiffs.ramps(channels=colours + len(extras))
    at = colours + extras.index("assocalpha")
    opacity = 0.5 + straight[..., at, None] / 2
    straight[..., at, None] = opacity
    stored = straight.copy()
    stored[..., :colours] *= opacity
    path = tiffs.write(
        tmp_path / "t.tif",
        tiffs.integers(stored, bits),
        photometric="rgb" if colours == 3 else "minisblack",
        planarconfig="contig",
        extrasamples=extras,
    )
    pixels = await render(pool, path)
    if colours == 1 and pixels.shape[2] == 4:  # Pillow reads gray and alpha of 16 bits as RGBA
        pixels = pixels[..., [0, 3]]
    assert np.abs(pixels - straight[..., [*range(colours), at]]).max() < 0.012


@pytest.mark.parametrize("photometric", [8, 9], ids=["CIELab", "ICCLab"])
@pytest.mark.parametrize("bits", [8, 16])
async def test_lab_becomes_the_colours_that_lcms_computes(
    pool: ImagingPool, tmp_path: Path, photometric: int, bits: int
) -> None:
    rgb = (tiffs.ramps() * 200 + 30).astype(np.uint8)
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = np.asarray(ImageCms.applyTransform(Image.fromarray(rgb), to_lab))
    lightness, chroma = lab[..., :1].astype(int), lab[..., 1:].view(np.int8).astype(int)
    chroma = chroma if photometric == 8 else chroma + 128
    steps = (257 if photometric == 8 else 256, 256) if bits == 16 else (1, 1)
    stored = lightness * steps[0], chroma * steps[1]
    kind = np.uint16 if bits == 16 else np.uint8
    array = np.concatenate(stored, axis=-1).astype(kind)
    path = tiffs.write(tmp_path / "t.tif", array, photometric=photometric, planarconfig="contig")
    difference = np.abs(await render(pool, path) - rgb / 255)
    assert np.percentile(difference, 98) < 0.02


@pytest.mark.parametrize("compression", [1, 8], ids=["uncompressed", "deflate"])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (4, 2)], ids=str)
@pytest.mark.parametrize("orientation", [1, 3])
async def test_ycbcr_without_jpeg_is_what_tiff2rgba_makes_of_it(
    pool: ImagingPool,
    tmp_path: Path,
    compression: int,
    subsampling: tuple[int, int],
    orientation: int,
) -> None:
    rgb = tiffs.integers(tiffs.ramps(71, 51), 8)
    data, tags = tiffs.subsampled_ycbcr(rgb, *subsampling)
    tags |= {259: (tiffs.SHORT, compression)}
    stored = zlib.compress(data) if compression == 8 else data
    upright, turned = tmp_path / "u.tif", tmp_path / "t.tif"
    upright.write_bytes(tiffs.assemble(tags, [stored]))
    turned.write_bytes(tiffs.assemble({**tags, 274: (tiffs.SHORT, orientation)}, [stored]))
    subprocess.run(["tiff2rgba", "-c", "none", upright, tmp_path / "r.tif"], check=True)
    expected = np.asarray(Image.open(tmp_path / "r.tif").convert("RGB")) / 255
    expected = expected[::-1, ::-1] if orientation == 3 else expected
    assert np.abs(await render(pool, turned) - expected).max() < 0.006


async def test_old_style_jpeg_is_what_libjpeg_makes_of_it(
    pool: ImagingPool, tmp_path: Path
) -> None:
    body = tiffs.jpeg_bytes(tiffs.integers(tiffs.ramps(), 8), subsampling="4:4:4")
    (tmp_path / "j.jpg").write_bytes(body)
    tags = {
        **tiffs.basic_tags(70, 50, 6, compression=6),
        513: (tiffs.LONG, 8),
        514: (tiffs.LONG, len(body)),
        530: (tiffs.SHORT, [1, 1]),
    }
    path = tmp_path / "t.tif"
    path.write_bytes(tiffs.assemble(tags, [body]))
    expected = np.asarray(Image.open(tmp_path / "j.jpg").convert("RGB")) / 255
    assert np.abs(await render(pool, path) - expected).max() < 0.02


async def test_floats_of_24_bits_are_read(pool: ImagingPool, tmp_path: Path) -> None:
    """One bit is the sign, 7 are the exponent with a bias of 63, 16 are the fraction."""
    packed = {0.0: 0, 0.25: 0x3D0000, 0.5: 0x3E0000, 0.75: 0x3E8000, 1.0: 0x3F0000}
    data = b"".join(value.to_bytes(3, "little") for value in packed.values())
    tags = {**tiffs.basic_tags(5, 1, 1, bits=[24]), 339: (tiffs.SHORT, 3)}
    path = tmp_path / "t.tif"
    path.write_bytes(tiffs.assemble(tags, [data]))
    assert np.abs((await render(pool, path))[0, :, 0] - list(packed)).max() < 0.003


@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
async def test_jpeg_of_12_bits_is_decoded(
    pool: ImagingPool, tmp_path: Path, photometric: str
) -> None:
    truth = tiffs.ramps(channels=1 if photometric == "minisblack" else 3)
    path = tiffs.write(
        tmp_path / "t.tif",
        tiffs.integers(truth, 12),
        photometric=photometric,
        bitspersample=12,
        compression="jpeg",
        compressionargs={"bitspersample": 12, "level": 98},
        subsampling=(1, 1),
    )
    assert np.abs(await render(pool, path) - truth).max() < 0.02


@pytest.mark.parametrize("bits", [8, 12, 16])
async def test_lossless_and_deep_jpeg_are_decoded(
    pool: ImagingPool, tmp_path: Path, bits: int
) -> None:
    truth = tiffs.ramps(channels=1)
    path = tiffs.write(
        tmp_path / "t.tif",
        tiffs.integers(truth, bits),
        photometric="minisblack",
        compression="jpeg",
        compressionargs={"lossless": True, "bitspersample": bits},
        **({"bitspersample": 12} if bits == 12 else {}),
    )
    assert np.abs(await render(pool, path) - truth).max() < 0.006


@pytest.mark.parametrize("absent", [258, 277], ids=["depth", "number of samples"])
async def test_old_style_jpeg_may_lack_tags_that_the_jpeg_has(
    pool: ImagingPool, tmp_path: Path, absent: int
) -> None:
    body = tiffs.jpeg_bytes(tiffs.integers(tiffs.ramps(), 8))
    tags = {
        **tiffs.basic_tags(70, 50, 6, compression=6),
        513: (tiffs.LONG, 8),
        514: (tiffs.LONG, len(body)),
    }
    del tags[absent]
    path = tmp_path / "t.tif"
    path.write_bytes(tiffs.assemble(tags, [body]))
    assert (await render(pool, path)).shape == (50, 70, 3)


async def test_without_a_photometric_interpretation_one_sample_is_gray(
    pool: ImagingPool, tmp_path: Path
) -> None:
    array = tiffs.integers(tiffs.ramps(channels=1), 8)
    tags = tiffs.basic_tags(70, 50, 1, bits=[8])
    del tags[262]
    path = tmp_path / "t.tif"
    path.write_bytes(tiffs.assemble(tags, [array.tobytes()]))
    assert np.abs(await render(pool, path) - array / 255).max() < 0.003


async def test_a_file_without_the_offset_of_a_next_directory_is_whole(
    pool: ImagingPool, tmp_path: Path
) -> None:
    rgb = tiffs.integers(tiffs.ramps(), 8)
    path = tmp_path / "t.tif"
    tags = tiffs.basic_tags(70, 50, 2)
    path.write_bytes(tiffs.assemble(tags, [rgb.tobytes()], has_next=False))
    assert np.abs(await render(pool, path) - rgb / 255).max() < 0.003


async def test_the_profile_of_a_picture_that_tifffile_decodes_is_applied(
    pool: ImagingPool, tmp_path: Path
) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    rgb = tiffs.integers(tiffs.ramps(), 8)
    planar = {"photometric": "rgb", "planarconfig": "separate", "tile": (32, 32)}
    path = tiffs.write(tmp_path / "t.tif", rgb, iccprofile=profile, **planar)
    probe = await pool.probe(path)
    assert (await pool.render(a_recipe(path, probe))).startswith(b"\x89PNG")


REFUSED = [
    pytest.param({262: (3, 32803)}, "the raw data of a camera sensor", id="colour filter array"),
    pytest.param({262: (3, 10)}, "ITU L*a*b*", id="ITULab"),
    pytest.param({262: (3, 777)}, "photometric interpretation 777", id="photometric"),
    pytest.param({259: (3, 34661)}, "JBIG", id="JBIG"),
    pytest.param({259: (3, 777)}, "number 777", id="compression"),
    pytest.param({339: (3, [5, 5, 5])}, "complex samples", id="complex"),
    pytest.param({339: (3, [3, 3, 3])}, "8-bit float samples", id="float of 8 bits"),
    pytest.param({258: (3, [5, 6, 5])}, "different depths", id="565"),
    pytest.param({262: (3, 5), 332: (3, 2), 258: (3, [8] * 5), 277: (3, 5)}, "inks", id="inks"),
]


@pytest.mark.parametrize(("tags", "name"), REFUSED)
async def test_what_no_reader_reads_is_unsupported_and_named(
    pool: ImagingPool, tmp_path: Path, tags: dict[int, tuple[int, Any]], name: str
) -> None:
    path = tmp_path / "t.tif"
    path.write_bytes(tiffs.assemble({**tiffs.basic_tags(20, 20, 2), **tags}, [bytes(2000)]))
    with pytest.raises(Unsupported) as caught:
        await pool.probe(path)
    assert name in caught.value.public
    assert "Convert the file" in caught.value.public


@pytest.mark.parametrize("kind", ["float32", "uint8"])
@pytest.mark.parametrize("compression", [None, "zlib"])
async def test_missing_strips_are_damage_and_not_black(
    pool: ImagingPool, tmp_path: Path, kind: str, compression: str | None
) -> None:
    """tifffile fills what is missing with zeros."""
    array = (np.random.default_rng(1).random((64, 64, 3)) * 200).astype(kind)
    whole = tiffs.write(
        tmp_path / "w.tif", array, photometric="rgb", rowsperstrip=8, compression=compression
    )
    path = tmp_path / "t.tif"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with pytest.raises(Damaged):
        await render(pool, path)


async def test_a_strip_without_bytes_is_damage_and_not_black(
    pool: ImagingPool, tmp_path: Path
) -> None:
    """tifffile fills it with zeros; in other files that means "no data"."""
    array = (tiffs.ramps(64, 64) * 200).astype(np.float32)
    path = tiffs.write(tmp_path / "t.tif", array, photometric="rgb", rowsperstrip=8)
    with tifffile.TiffFile(path, mode="r+") as file:
        sizes = file.pages[0].tags["StripByteCounts"].value
        file.pages[0].tags["StripByteCounts"].overwrite([0, *sizes[1:]])
    with pytest.raises(Damaged):
        await pool.probe(path)


@pytest.mark.parametrize("compression", [1, 8], ids=["uncompressed", "deflate"])
async def test_short_data_of_ycbcr_is_damage_and_not_black(
    pool: ImagingPool, tmp_path: Path, compression: int
) -> None:
    """The RGBA interface of libtiff reports no error."""
    data, tags = tiffs.subsampled_ycbcr(tiffs.integers(tiffs.ramps(), 8), 2, 2)
    half = data[: len(data) // 2]
    stored = zlib.compress(half) if compression == 8 else half
    path = tmp_path / "t.tif"
    path.write_bytes(tiffs.assemble({**tags, 259: (tiffs.SHORT, compression)}, [stored]))
    with pytest.raises(Damaged):
        await render(pool, path)


async def test_a_picture_that_needs_too_much_memory_is_refused_before_it_is_decoded(
    pool: ImagingPool, tmp_path: Path
) -> None:
    tags = tiffs.basic_tags(14_000, 14_000, 2, bits=(32, 32, 32))
    path = tmp_path / "t.tif"
    path.write_bytes(tiffs.assemble({**tags, 339: (3, [3, 3, 3])}, [bytes(100)]))
    with pytest.raises(TooLarge):
        await pool.probe(path)


def test_the_tests_write_what_they_mean(tmp_path: Path) -> None:
    path = tiffs.write(tmp_path / "t.tif", tiffs.integers(tiffs.ramps(), 8), photometric="rgb")
    with tifffile.TiffFile(path) as file:
        assert (file.pages[0].photometric, len(file.pages)) == (2, 1)
    assert asyncio.iscoroutinefunction(render)
