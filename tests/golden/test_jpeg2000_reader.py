"""JPEG2000 files of all kinds give the samples that OpenJPEG's own program, Pillow's lcms or numpy
give: whole, at reduced scales, in regions, again and in any order.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from orchestrator.errors import Damaged, OrchestratorError, Unprocessable, Unsupported
from orchestrator.imaging import colour
from orchestrator.imaging.jpeg2000 import binding
from orchestrator.imaging.jpeg2000.area_decoder import AreaDecoder
from orchestrator.imaging.jpeg2000.assembly import Assembler
from orchestrator.imaging.jpeg2000.jp2_layout import read_layout, read_whole_layout
from orchestrator.imaging.jpeg2000.reader import Reader
from orchestrator.imaging.jpeg2000.whole_picture import load_whole
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.probe import Bounds, probe
from tests.golden.comparison import a_recipe, assert_alike, decode
from tests.support import jp2_files as jp2
from tests.support import pictures

SIZE = (230, 170)


def picture_planes(width: int = SIZE[0], height: int = SIZE[1]) -> Any:
    return pictures.pattern(width, height, seed=3).transpose(2, 0, 1)


def read(path: Path, body: bytes) -> Any:
    """The whole picture of a file, in declared form."""
    path.write_bytes(body)
    return load_whole(path, path.with_suffix(".v"))


def pixels(image: Any) -> Any:
    """An array (rows, columns, bands), or (rows, columns) of one band."""
    array = image.numpy()
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def check_regions(path: Path, *, reductions: int = 0) -> None:
    """Regions of a file, read in any order and twice by one reader, are parts of the whole."""
    layout = read_layout(path)
    chance = random.Random(path.name)
    for n in range(reductions + 1):
        reader = Reader(binding.require(), layout, str(path), n)
        width, height = reader.dimensions
        whole = pixels(reader.read(0, 0, width, height))
        regions = []
        for _ in range(6):
            w, h = chance.randint(1, width), chance.randint(1, height)
            regions.append((chance.randint(0, width - w), chance.randint(0, height - h), w, h))
        for x, y, w, h in regions + regions[::-1]:
            part = pixels(reader.read(x, y, w, h))
            assert (part == whole[y : y + h, x : x + w]).all(), (n, x, y, w, h)
        reader.close()


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-d", "37,53"),
        ("-d", "37,53", "-T", "20,10", "-t", "96,80"),
        ("-d", "64,32", "-T", "64,0", "-t", "128,128"),
        ("-t", "40,24", "-n", "2"),
        ("-t", "1000,900", "-n", "3"),
        ("-n", "1"),
        ("-t", "100,100", "-n", "1", "-p", "CPRL"),
        ("-t", "64,64", "-TP", "R", "-p", "RPCL"),
        ("-t", "64,64", "-TP", "L", "-r", "20,5,1"),
        ("-SOP", "-EPH", "-M", "63"),
    ],
    ids=" ".join,
)
def test_offsets_and_tiles_of_any_size_give_the_samples_of_opj_decompress(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = tmp_path / "a.jp2"
    image = read(path, jp2.wrap(jp2.codestream(path, picture_planes(), *options), jp2.colour(16)))
    assert (image.interpretation, image.format) == ("srgb", "uchar")
    assert (pixels(image) == picture_planes().transpose(1, 2, 0)).all()
    assert (pixels(image) == jp2.decompressed(path)).all()
    check_regions(path)


def test_a_large_picture_with_an_offset_is_the_same_at_every_scale(tmp_path: Path) -> None:
    """Reduced resolutions are used only where their grid is that of the picture."""
    planes = picture_planes(1400, 1100)
    for offset, usable in (("0,0", 5), ("37,53", 0), ("44,52", 2), ("64,96", 5)):
        path = tmp_path / f"{offset}.jp2"
        path.write_bytes(jp2.wrap(jp2.codestream(path, planes, "-d", offset), jp2.colour(16)))
        header = read_whole_layout(path).header
        assert header.usable_reductions == usable
        check_regions(path, reductions=min(usable, 2))
        if usable:
            reader = Reader(binding.require(), read_layout(path), str(path), 1)
            expected = planes.transpose(1, 2, 0)[: 1100 // 2 * 2, : 1400 // 2 * 2]
            expected = expected.reshape(550, 2, 700, 2, 3).mean(axis=(1, 3))
            assert_alike(pixels(reader.read(0, 0, 700, 550)), expected.astype(np.uint8), p99=60)


@pytest.mark.parametrize("bits", [1, 2, 5, 8, 10, 12, 16])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_samples_of_any_depth_become_full_range(tmp_path: Path, bits: int, signed: bool) -> None:
    top = (1 << bits) - 1
    values = np.linspace(0, top, 90 * 80).round().astype(int).reshape(80, 90)
    stored = values - (1 << (bits - 1)) if signed else values
    path = tmp_path / "a.jp2"
    stream = jp2.codestream(path, [stored], "-n", "3", bits=bits, signed=signed)
    image = read(path, jp2.wrap(stream, jp2.colour(17)))
    full = 255 if bits <= 8 else 65535
    assert image.interpretation == ("b-w" if bits <= 8 else "grey16")
    assert np.abs(pixels(image) - values * full / top).max() <= 0.51
    check_regions(path)


@pytest.mark.parametrize("size", [(230, 170), (231, 171), (7, 5)], ids=str)
@pytest.mark.parametrize("offset", ["0,0", "3,5"])
@pytest.mark.parametrize("step", [(2, 2), (2, 1), (1, 2), (3, 3)], ids=str)
def test_subsampled_chroma_is_repeated_on_the_reference_grid(
    tmp_path: Path, size: tuple[int, int], offset: str, step: tuple[int, int]
) -> None:
    """A sample belongs to the grid positions from its own to the next; the first one also to those
    before it (ISO/IEC 15444-1, B.2).
    """
    (width, height), (left, top), (dx, dy) = size, map(int, offset.split(",")), step
    chance = np.random.default_rng(5)
    columns, rows = np.arange(left, left + width), np.arange(top, top + height)
    first = -(-left // dx), -(-top // dy)
    small = -(-(left + width) // dx) - first[0], -(-(top + height) // dy) - first[1]
    luma = chance.integers(0, 256, (height, width))
    chroma = [chance.integers(0, 256, small[::-1]) for _ in range(2)]
    across = np.clip(columns // dx - first[0], 0, None)
    down = np.clip(rows // dy - first[1], 0, None)
    full = [luma, *(plane[np.ix_(down, across)] for plane in chroma)]
    expected = ycc_to_rgb(np.stack(full, -1))
    path = tmp_path / "a.jp2"
    area = left, top, left + width, top + height
    stream = jp2.subsampled(path, [luma, *chroma], [(1, 1), step, step], area)
    image = read(path, jp2.wrap(stream, jp2.colour(18)))
    assert np.abs(pixels(image).astype(int) - expected).max() <= 1
    check_regions(path)


def ycc_to_rgb(array: Any) -> Any:
    """sYCC as in ISO/IEC 15444-1, G.2 (the irreversible component transformation)."""
    y, cb, cr = array[..., 0], array[..., 1] - 128.0, array[..., 2] - 128.0
    rgb = [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
    return np.clip(np.stack(rgb, -1), 0, 255).round().astype(int)


def test_components_that_are_all_subsampled_have_the_size_of_the_reference_grid(
    tmp_path: Path,
) -> None:
    plane = picture_planes()[0]
    path = tmp_path / "a.jp2"
    image = read(path, jp2.wrap(jp2.codestream(path, [plane], "-s", "2,3"), jp2.colour(17)))
    expected = plane.repeat(3, 0).repeat(2, 1)[: image.height, : image.width]
    assert 2 * SIZE[0] - 2 < image.width <= 2 * SIZE[0]
    assert (pixels(image) == expected).all()
    check_regions(path)


INKS = np.random.default_rng(2).integers(0, 256, (4, 60, 70))
GRAY_STEPS = np.linspace(0, 255, 4200).astype(int).reshape(60, 70)


def video_to_rgb(array: Any, red: float, blue: float) -> Any:
    """Video levels by the formulas of ITU-R BT.601 and BT.709."""
    y, cb, cr = (array[..., 0] - 16) / 219, *((array[..., n] - 128) / 224 for n in (1, 2))
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([r, g, b], -1) * 255, 0, 255).round().astype(int)


@pytest.mark.parametrize(
    ("space", "planes", "expected"),
    [
        (0, [GRAY_STEPS], lambda a: 255 - a[..., 0]),
        (15, [GRAY_STEPS], lambda a: a[..., 0]),
        (17, [GRAY_STEPS], lambda a: a[..., 0]),
        (1, INKS[:3], lambda a: video_to_rgb(a, 0.2126, 0.0722)),
        (3, INKS[:3], ycc_to_rgb),
        (4, INKS[:3], lambda a: video_to_rgb(a, 0.299, 0.114)),
        (11, INKS[:3], lambda a: 255 - a),
        (12, INKS, lambda a: np.clip(255 - a[..., :3] - a[..., 3:], 0, 255)),
        (13, INKS, lambda a: np.clip(ycc_to_rgb(a[..., :3]) - a[..., 3:], 0, 255)),
        (16, INKS[:3], lambda a: a),
        (16, INKS, lambda a: a[..., :3]),
        (18, INKS[:3], ycc_to_rgb),
        (24, INKS[:3], ycc_to_rgb),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_enumerated_colour_spaces_become_srgb_or_gray(
    tmp_path: Path, space: int, planes: Any, expected: Callable[[Any], Any]
) -> None:
    path = tmp_path / "a.jp2"
    stream = jp2.codestream(path, planes, "-mct", "0")
    image = read(path, jp2.wrap(stream, jp2.colour(space)))
    truth = expected(np.stack(planes, -1).astype(int))
    # YCCK is rounded twice: to RGB, then to inks.
    assert np.abs(pixels(image).astype(int) - truth).max() <= (2 if space == 13 else 1)
    assert pixels(colour.to_web(image)).shape == truth.shape


def test_lab_is_what_lcms_makes_of_it(tmp_path: Path) -> None:
    chance = np.random.default_rng(4)
    light, a, b = (chance.integers(*r, (40, 50)) for r in ((60, 220), (100, 156), (80, 120)))
    path = tmp_path / "a.jp2"
    stream = jp2.codestream(path, [light, a, b], "-mct", "0", "-n", "2")
    image = read(path, jp2.wrap(stream, jp2.colour(14)))
    # Pillow's LAB has L * 255 / 100, and a and b with an offset of 128.
    scaled = [light, (a - 128) * 170 / 255 + 128, (b - 96) * 200 / 255 + 128]
    packed = np.stack(scaled, -1).round().astype(np.uint8)
    packed[..., 1:] ^= 0x80  # Pillow stores a and b with a sign
    lab = Image.frombytes("LAB", (50, 40), packed.tobytes())
    expected = ImageCms.profileToProfile(
        lab, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert expected is not None
    assert_alike(pixels(image), np.asarray(expected), mean=2, p99=6)


@pytest.mark.parametrize("space", [9, 19, 20, 21, 22, 23, 99])
def test_a_colour_space_that_cannot_be_converted_is_named(tmp_path: Path, space: int) -> None:
    path = tmp_path / "a.jp2"
    stream = jp2.codestream(path, INKS[:3], "-n", "1")
    with pytest.raises(Unsupported, match="in the colour space"):
        read(path, jp2.wrap(stream, jp2.colour(space)))
    image = read(path, jp2.wrap(stream, jp2.colour(space), jp2.colour(16)))
    assert (pixels(image) == INKS[:3].transpose(1, 2, 0)).all()


def test_the_profile_is_attached_if_it_fits(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "a.jp2"
    rgb = jp2.codestream(path, INKS[:3], "-n", "1")
    for restricted in (True, False):
        image = read(path, jp2.wrap(rgb, jp2.profile(srgb, restricted=restricted)))
        assert image.get("icc-profile-data") == srgb
    assert probe(path, Bounds(10**8, 1)).notes == ()
    gray = srgb[:16] + b"GRAY" + srgb[20:]
    for body in (gray, srgb[:40]):
        image = read(path, jp2.wrap(rgb, jp2.profile(body)))
        assert "icc-profile-data" not in image.get_fields()
        assert image.bands == 3
        (note,) = probe(path, Bounds(10**8, 1)).notes
        assert "does not fit" in note


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], [0, 1, 2]),
        ([(0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 1, 0)], [0, 1, 2, 3]),
        ([(0, 0, 3), (1, 0, 2), (2, 0, 1), (3, 1, 0)], [2, 1, 0, 3]),
        ([(0, 1, 0), (1, 0, 1), (2, 0, 2), (3, 0, 3)], [1, 2, 3, 0]),
        ([(0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 65535, 65535)], [0, 1, 2]),
        ([(0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 1, 2)], [0, 1, 2]),
    ],
    ids=["none", "rgba", "bgra", "argb", "unspecified", "opacity of one colour"],
)
def test_channel_definitions_say_the_order_and_the_opacity(
    tmp_path: Path, entries: list[tuple[int, int, int]], expected: list[int]
) -> None:
    path = tmp_path / "a.jp2"
    boxes = [jp2.colour(16)] + ([jp2.definitions(*entries)] if entries else [])
    image = read(path, jp2.wrap(jp2.codestream(path, INKS, "-mct", "0"), *boxes))
    assert (pixels(image) == INKS[expected].transpose(1, 2, 0)).all()
    check_regions(path)


def test_premultiplied_colours_are_divided_by_their_opacity(tmp_path: Path) -> None:
    opacity = np.random.default_rng(1).integers(60, 256, (60, 70))
    straight = INKS[:3].astype(float)
    stored = (straight * opacity / 255).round().astype(int)
    path = tmp_path / "a.jp2"
    stream = jp2.codestream(path, [*stored, opacity], "-mct", "0")
    defined = jp2.definitions((0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 2, 0))
    image = pixels(read(path, jp2.wrap(stream, jp2.colour(16), defined))).astype(int)
    assert (image[..., 3] == opacity).all()
    assert np.abs(image[..., :3] - straight.transpose(1, 2, 0)).max() <= 3


@pytest.mark.parametrize("bits", [8, 12])
def test_a_palette_gives_its_colours_at_every_scale(tmp_path: Path, bits: int) -> None:
    chance, top = np.random.default_rng(9), (1 << bits) - 1
    table = chance.integers(0, top + 1, (200, 3))
    index = (np.arange(1500)[:, None] // 16 * 7 + np.arange(1600) // 16 * 3) % 200
    path = tmp_path / "a.jp2"
    rows = [(int(r), int(g), int(b)) for r, g, b in table]
    stream = jp2.codestream(path, [index], "-t", "512,512")
    image = read(path, jp2.wrap(stream, jp2.colour(16), jp2.palette(rows, bits)))
    full = 255 if bits == 8 else 65535
    expected = table[index] * full / top
    assert np.abs(pixels(image) - expected).max() <= 0.51
    assert read_layout(path).header.usable_reductions == 0
    check_regions(path)


async def test_a_palette_is_averaged_in_colours_when_zooming_out(
    pool: ImagingPool, tmp_path: Path
) -> None:
    """Index 0 is black and index 2 white. The mean of both indices is 1, which is red."""
    index = np.zeros((1600, 1800), int)
    index[::2] = 2
    path = tmp_path / "a.jp2"
    stream = jp2.codestream(path, [index], "-t", "512,512")
    table = jp2.palette([(0, 0, 0), (255, 0, 0), (255, 255, 255)])
    path.write_bytes(jp2.wrap(stream, jp2.colour(16), table))
    found = await pool.probe(path)
    small = decode(await pool.render(a_recipe(path, found, size=(450, 400), format="png")))
    assert np.abs(small.astype(int) - 127).max() <= 2


def test_tile_parts_may_be_interleaved_and_counted_in_the_last_one_only(tmp_path: Path) -> None:
    path = tmp_path / "a.j2k"
    header, parts = jp2.tile_parts(
        jp2.codestream(path, picture_planes(), "-t", "96,96", "-TP", "R", "-n", "3")
    )
    assert len(parts) == 18
    by_tile = [parts[n : n + 3] for n in range(0, 18, 3)]
    by_number = [part for column in zip_longest(*by_tile) for part in column]
    counted = [jp2.with_count(part, 3 if part[10] == 2 else 0) for part in by_number]
    for order in (by_number, counted, [jp2.with_count(part, 0) for part in parts]):
        image = read(path, jp2.join(header, order))
        assert (pixels(image) == picture_planes().transpose(1, 2, 0)).all()
        check_regions(path, reductions=2)


def test_the_length_of_the_last_tile_part_and_the_end_marker_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.jp2"
    header, parts = jp2.tile_parts(jp2.codestream(path, picture_planes(), "-t", "128,128"))
    last = jp2.with_length(parts[-1], 0)
    for stream in (jp2.join(header, [*parts[:-1], last]), jp2.join(header, parts, b"")):
        for body in (stream, jp2.wrap(stream, jp2.colour(16))):
            image = read(path, body)
            assert (pixels(image) == picture_planes().transpose(1, 2, 0)).all()


def test_a_file_that_lacks_anything_is_damaged_always(tmp_path: Path) -> None:
    path = tmp_path / "a.jp2"
    stream = jp2.codestream(path, picture_planes(), "-t", "128,128", "-TP", "R")
    header, parts = jp2.tile_parts(stream)
    cuts = [stream[:length] for length in range(120, len(stream) - 2, len(stream) // 30)]
    missing = [jp2.join(header, parts[:n] + parts[n + 1 :]) for n in range(0, len(parts), 5)]
    tile = [part for part in parts if part[4:6] != b"\0\1"]
    unknown_end = jp2.join(header, [*parts[:-1], jp2.with_length(parts[-1], 0)], b"")
    for body in (*cuts, *missing, jp2.join(header, tile), unknown_end):
        for again in range(2):
            path.write_bytes(body if again else jp2.wrap(body, jp2.colour(16)))
            with pytest.raises(Damaged):
                probe(path, Bounds(10**9, 10))


def test_every_changed_byte_gives_the_same_verdict_twice(tmp_path: Path) -> None:
    path, chance = tmp_path / "a.jp2", random.Random(3)
    stream = jp2.codestream(path, picture_planes(100, 80), "-t", "64,64", "-n", "3")
    body = jp2.wrap(stream, jp2.colour(16))
    for _ in range(80):
        changed = bytearray(body)
        changed[chance.randrange(len(body) if chance.random() < 0.5 else 250)] = chance.randrange(
            256
        )
        path.write_bytes(bytes(changed))
        assert outcome(path) == outcome(path)


def outcome(path: Path) -> object:
    try:
        probe(path, Bounds(10**7, 10))
        return pixels(load_whole(path, path.with_suffix(".v"))).tobytes()
    except (OrchestratorError, binding.CodestreamError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("tiled", [False, True])
def test_high_throughput_files_are_right_in_every_region(tmp_path: Path, tiled: bool) -> None:
    array = np.ascontiguousarray(picture_planes(1300, 1100).transpose(1, 2, 0))
    options = {"tile": (512, 512)} if tiled else {}
    path = tmp_path / "a.jph"
    try:
        body = imagecodecs.htj2k_encode(array, reversible=True, **options)
    except TypeError:
        pytest.skip("this imagecodecs has no option for tiles")
    path.write_bytes(body)
    layout = read_whole_layout(path)
    assert layout.stream.high_throughput
    reader = Reader(binding.require(), layout, str(path), 0)
    for x, y, w, h in ((700, 600, 300, 200), (0, 0, 1300, 1100), (37, 511, 512, 30)):
        assert (pixels(reader.read(x, y, w, h)) == array[y : y + h, x : x + w]).all()


def test_a_large_picture_is_kept_in_the_scratch_file(tmp_path: Path) -> None:
    planes = picture_planes(1500, 1300)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for options in (("-t", "200,300"), ()):
        path, scratch = tmp_path / "a.jp2", tmp_path / "scratch.v"
        body = jp2.wrap(jp2.codestream(path, planes, *options), jp2.profile(srgb))
        path.write_bytes(body)
        image = load_whole(path, scratch, in_memory=0)
        assert scratch.stat().st_size == 64 + planes.size
        assert (pixels(image) == planes.transpose(1, 2, 0)).all()
        assert image.interpretation == "srgb"
        assert image.get("icc-profile-data") == srgb
    with pytest.raises(OSError, match="No such file"):
        load_whole(path, tmp_path / "none" / "scratch.v", in_memory=0)


def test_a_jpx_with_empty_boxes_and_colours_of_a_layer_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpx"
    stream = jp2.codestream(path, INKS[:3], "-mct", "0")
    body = jp2.wrap(stream, brand=b"jpx ")
    layer = jp2.box(b"jplh", jp2.box(b"cgrp", jp2.colour(18)))
    at = body.index(b"jp2c") - 4
    for extra, expected in (
        (jp2.box(b"jpch") + jp2.box(b"jplh"), INKS[:3].transpose(1, 2, 0)),
        (layer, ycc_to_rgb(INKS[:3].transpose(1, 2, 0))),
    ):
        image = read(path, body[:at] + extra + body[at:])
        assert np.abs(pixels(image).astype(int) - expected).max() <= 1


async def test_no_answer_has_the_pixels_of_another_picture(
    pool: ImagingPool, tmp_path: Path
) -> None:
    """The memory of a worker is filled with a marker, then damaged files are rendered there."""
    marker = (201, 47, 113)
    Image.new("RGB", (1400, 1200), marker).save(tmp_path / "marker.png")
    found = await pool.probe(tmp_path / "marker.png")
    path, chance = tmp_path / "a.jp2", random.Random(8)
    gray = [np.full((900, 1100), 90)] * 3
    body = jp2.wrap(jp2.codestream(path, gray, "-t", "256,256", "-r", "40"), jp2.colour(16))
    answers = 0
    for n in range(40):
        await pool.render(a_recipe(tmp_path / "marker.png", found, format="png"))
        changed = bytearray(body)
        for _ in range(n % 5):
            changed[chance.randrange(200, len(body))] = chance.randrange(256)
        path.write_bytes(bytes(changed))
        try:
            answer = await pool.render(a_recipe(path, await pool.probe(path), format="png"))
        except Unprocessable:
            continue
        answers += 1
        image = np.asarray(Image.open(io.BytesIO(answer)).convert("RGB")).astype(int)
        assert not (np.abs(image - marker).max(axis=2) <= 1).any()
    assert answers >= 8


@pytest.mark.parametrize(
    ("steps", "model"),
    [
        ([(1, 1), (2, 2), (2, 2)], "ycc"),
        ([(1, 1), (2, 1), (1, 2)], "rgb"),
        ([(1, 1), (2, 2), (2, 2), (1, 1)], "rgb"),
    ],
    ids=["chroma", "unequal", "four components"],
)
def test_only_three_colours_with_equal_chroma_are_taken_for_ycc(
    tmp_path: Path, steps: list[tuple[int, int]], model: str
) -> None:
    path = tmp_path / "a.j2k"
    planes = [np.zeros((32 // dy, 32 // dx), np.uint8) for dx, dy in steps]
    path.write_bytes(jp2.subsampled(path, planes, steps, (0, 0, 32, 32)))
    assert read_whole_layout(path).header.plan.model == model


OTHERS = {
    "smaller": ((3, 200, 301), 8, "size"),
    "deeper": ((3, 240, 310), 12, "precision"),
    "gray": ((1, 240, 310), 8, "components"),
}


@pytest.mark.parametrize(("shape", "bits", "fault"), OTHERS.values(), ids=OTHERS.keys())
def test_what_the_decoder_returns_is_compared_with_what_was_asked_for(
    tmp_path: Path, shape: tuple[int, int, int], bits: int, fault: str
) -> None:
    """The header that was parsed is not that of the codestream that is decoded."""
    path, other = tmp_path / "a.j2k", tmp_path / "b.j2k"
    path.write_bytes(jp2.codestream(path, picture_planes(310, 240)))
    planes = np.full(shape, 2**bits - 1, np.uint16 if bits > 8 else np.uint8)
    other.write_bytes(jp2.codestream(other, planes, bits=bits))
    stream, layout = read_whole_layout(path).stream, read_whole_layout(other)
    file = other.open("rb", buffering=0)
    pieces = Assembler(layout).assemble(file, layout.stream.area, 0).pieces
    with (
        closing(AreaDecoder(binding.require(), stream, file, pieces, 0)) as decoder,
        pytest.raises(binding.CodestreamError, match=fault),
        decoder.decode(stream.area, range(len(stream.components))),
    ):
        pass
