"""Which image of a TIFF is the picture, and which ones are levels of it. Each image has a colour of
its own, so a wrong one is seen.
"""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import tifffile
from numpy.typing import NDArray
from PIL import Image

from orchestrator.errors import Damaged
from orchestrator.imaging import FASTEST, Probe
from orchestrator.imaging.intervals import Spans
from orchestrator.imaging.partial_source import PartialFile, needed_bytes, read_outline
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.tiff.directories import TagValues
from orchestrator.imaging.tiff.pyramid import TiffPicture, read_picture
from orchestrator.model import SourceKind
from tests.golden.comparison import a_recipe
from tests.support import pictures
from tests.support import tiff_files as tiffs

TILED = {"photometric": "rgb", "compression": "zlib", "tile": (64, 64)}
REDUCED, PAGE, MASK = 1, 2, 4
RED, GREEN, BLUE, GRAY = (200, 30, 30), (30, 200, 30), (30, 30, 200), (120, 120, 120)


def plain(width: int, height: int, colour: tuple[int, int, int] = RED) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


Page = tuple[NDArray[Any], dict[str, Any]]


def full(width: int = 300, height: int = 200, **options: Any) -> Page:
    return plain(width, height), {**TILED, **options}


def small(width: int = 150, height: int = 100, **options: Any) -> Page:
    return plain(width, height, GREEN), {**TILED, "subfiletype": REDUCED, **options}


def mask(width: int = 150, height: int = 100) -> Page:
    options = {"photometric": "minisblack", "tile": (64, 64), "subfiletype": REDUCED | MASK}
    return np.ones((height, width), bool), options


LAYOUTS = [
    pytest.param([full(), small()], 2, id="a reduced page of half the size"),
    pytest.param([full(), small(subfiletype=0)], 1, id="a page that is not reduced"),
    pytest.param([full(), small(subfiletype=PAGE)], 1, id="the second page of a document"),
    pytest.param([full(), mask(), small()], 2, id="a mask is passed over"),
    pytest.param([mask(), full(), small()], 2, id="a mask is not the picture"),
    pytest.param([full(), small(75, 50)], 1, id="a quarter of the size is a gap"),
    pytest.param([full(), small(), small(75, 50)], 3, id="two levels"),
    pytest.param([full(), small(80, 60), small()], 2, id="a thumbnail is passed over"),
    pytest.param([full(), full(), small()], 1, id="the reduction of another picture"),
    pytest.param([full(301, 201), small(151, 100)], 2, id="rounded up and down"),
    pytest.param([full(), small(150, 120)], 1, id="half of one side"),
    pytest.param([full(), small(compression="lzw")], 2, id="another compression"),
    pytest.param([full(), small(planarconfig="separate", tile=None)], 1, id="strips of planes"),
    pytest.param([full(tile=None), small(tile=None)], 2, id="strips"),
]


@pytest.mark.parametrize(("pages", "levels"), LAYOUTS)
def test_a_level_declares_itself_reduced_and_halves_the_size(
    tmp_path: Path, pages: Sequence[Page], levels: int
) -> None:
    assert len(read(tmp_path, pages).levels) == levels


def read(folder: Path, pages: Sequence[Page]) -> TiffPicture:
    pages = [
        (np.moveaxis(a, -1, 0) if o.get("planarconfig") == "separate" else a, o) for a, o in pages
    ]
    return read_picture(tiffs.write_pages(folder / "t.tif", pages))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((plain(150, 100)[..., 0], {"photometric": "minisblack"}), id="gray"),
        pytest.param((plain(150, 100).astype(np.uint16), {}), id="16 bits"),
        pytest.param(
            (np.zeros((100, 150, 4), np.uint8), {"extrasamples": ["unassalpha"]}), id="alpha"
        ),
        pytest.param((plain(150, 100), {"tile": None}), id="strips"),
    ],
)
def test_a_level_has_the_samples_of_the_picture(tmp_path: Path, other: Page) -> None:
    array, options = other
    pages = [full(), (array, {**TILED, "subfiletype": REDUCED, **options})]
    assert len(read(tmp_path, pages).levels) == 1


def test_sub_directories_are_levels(tmp_path: Path) -> None:
    pages = [full(subifds=2), small(), small(75, 50), full(150, 100)]
    picture = read(tmp_path, pages)
    assert [(level.page, level.subifd) for level in picture.levels] == [(0, -1), (0, 0), (0, 1)]
    assert picture.pages == 2


@pytest.mark.parametrize("options", [{}, {"subifd": True}], ids=["pages", "sub-directories"])
def test_the_pyramids_of_libvips_have_all_their_levels(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "p.tif"
    image = pyvips.Image.new_from_array(pictures.pattern(1001, 703)).copy(interpretation="srgb")
    image.tiffsave(str(path), tile=True, pyramid=True, compression="jpeg", **options)
    sizes = [level.dimensions for level in read_picture(path).levels]
    assert sizes[:3] == [(1001, 703), (500, 351), (250, 175)]


def test_a_reduced_first_page_is_not_the_picture(tmp_path: Path) -> None:
    picture = read(tmp_path, [small(38, 25), full(), small(), small(75, 50)])
    assert picture.dimensions == (300, 200)
    assert [level.page for level in picture.levels] == [1, 2, 3]


def test_the_picture_of_a_page_that_is_only_a_reduction_is_its_sub_directory(
    tmp_path: Path,
) -> None:
    picture = read(tmp_path, [small(38, 25, subifds=1), full()])
    assert (picture.dimensions, picture.levels[0].subifd) == ((300, 200), 0)


def test_without_a_full_image_the_largest_reduction_is_the_picture(tmp_path: Path) -> None:
    assert read(tmp_path, [small(38, 25), small(76, 50)]).dimensions == (76, 50)


def colour_of(body: bytes) -> tuple[int, ...]:
    pixels = np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))
    return tuple(int(value) for value in np.rint(pixels.reshape(-1, 3).mean(axis=0)))


async def test_every_reader_of_a_file_uses_the_same_page(pool: ImagingPool, tmp_path: Path) -> None:
    """The picture is red, its level green. Another page and the first, reduced one are blue."""
    thumbnail = plain(38, 25, BLUE), {**TILED, "subfiletype": REDUCED}
    other = plain(150, 100, BLUE), TILED
    path = tiffs.write_pages(tmp_path / "t.tif", [thumbnail, full(), small(), other])
    probe = await pool.probe(path)
    assert (probe.dimensions, probe.kind) == ((300, 200), SourceKind.ORIGINAL)
    whole, half = a_recipe(path, probe), a_recipe(path, probe, size=(150, 100))
    assert colour_of(await pool.render(whole)) == RED
    assert colour_of(await pool.render(half)) == GREEN
    converted = await pool.convert(path, tmp_path / "c.tif", FASTEST)
    assert converted.dimensions == (300, 200)
    red = colour_of(await pool.render(a_recipe(tmp_path / "c.tif", converted)))
    assert max(abs(a - b) for a, b in zip(red, RED, strict=True)) <= 2
    level = read_picture(path).levels[1].directory
    tiles = {start for start, _ in spans_of_level(path, probe)}
    assert tiles >= set(tile_offsets(path, level.offsets))


def tile_offsets(path: Path, values: TagValues) -> tuple[int, ...]:
    return struct.unpack_from(
        f"{values.code[0]}{values.count}{values.code[1]}", path.read_bytes(), values.offset
    )


def spans_of_level(path: Path, probe: Probe) -> list[tuple[int, int]]:
    """The bytes that half the picture needs, from a file of which all is present."""
    with path.open("rb") as file:
        size = path.stat().st_size
        present = Spans()
        present.add((0, size))
        partial = PartialFile(file.fileno(), size, present)
        outline = read_outline(partial)
        assert outline is not None
        needed = needed_bytes(outline, a_recipe(path, probe, size=(150, 100)), partial)
    assert needed is not None
    return sorted(needed.spans)


async def test_the_levels_of_a_later_page_are_its_own_sub_directories(
    pool: ImagingPool, tmp_path: Path
) -> None:
    thumbnail = plain(38, 25, BLUE), {**TILED, "subfiletype": REDUCED}
    path = tiffs.write_pages(tmp_path / "t.tif", [thumbnail, full(subifds=1), small()])
    probe = await pool.probe(path)
    assert colour_of(await pool.render(a_recipe(path, probe))) == RED
    assert colour_of(await pool.render(a_recipe(path, probe, size=(150, 100)))) == GREEN


async def test_a_picture_in_a_sub_directory_is_read_and_converted(
    pool: ImagingPool, tmp_path: Path
) -> None:
    thumbnail = plain(38, 25, BLUE), {**TILED, "subfiletype": REDUCED, "subifds": 1}
    path = tiffs.write_pages(tmp_path / "t.tif", [thumbnail, full()])
    probe = await pool.probe(path)
    assert (probe.dimensions, probe.kind) == ((300, 200), SourceKind.ORIGINAL)
    assert colour_of(await pool.render(a_recipe(path, probe))) == RED
    assert (await pool.convert(path, tmp_path / "c.tif", FASTEST)).dimensions == (300, 200)


@pytest.mark.parametrize("options", [{"byteorder": ">"}, {"bigtiff": True}], ids=str)
async def test_both_byte_orders_and_large_files_have_levels_and_stored_tiles(
    pool: ImagingPool, tmp_path: Path, options: dict[str, Any]
) -> None:
    jpeg = {**TILED, "compression": "jpeg", "compressionargs": {"level": 95}}
    path = tmp_path / "t.tif"
    with tifffile.TiffWriter(path, **options) as file:
        file.write(plain(256, 128), metadata=None, **jpeg)
        file.write(plain(128, 64, GREEN), metadata=None, subfiletype=REDUCED, **jpeg)
    probe = await pool.probe(path)
    assert probe.kind is SourceKind.PYRAMID_TIFF
    for factor, colour in ((1, RED), (2, GREEN)):
        region = (0, 0, 64 * factor, 64 * factor)
        recipe = a_recipe(path, probe, region=region, size=(64, 64), format="jpg")
        body = await pool.render(recipe)
        assert body[-100:] in path.read_bytes()
        assert max(abs(a - b) for a, b in zip(colour_of(body), colour, strict=True)) <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_the_orientation_of_the_picture_holds_for_all_levels(
    pool: ImagingPool, tmp_path: Path, orientation: int
) -> None:
    array = pictures.pattern(300, 200)
    halved = np.asarray(Image.fromarray(array).resize((150, 100), Image.Resampling.BOX))
    tag = [(274, "H", 1, orientation, True)]
    path = tiffs.write_pages(
        tmp_path / "t.tif",
        [(array, {**TILED, "extratags": tag}), (halved, {**TILED, "subfiletype": REDUCED})],
    )
    expected = Image.fromarray(array)
    turns = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_270],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_90],
    }
    for turn in turns.get(orientation, []):
        expected = expected.transpose(turn)
    probe = await pool.probe(path)
    assert probe.dimensions == expected.size
    for divisor in (1, 2):
        size = (probe.width // divisor, probe.height // divisor)
        body = await pool.render(a_recipe(path, probe, size=size))
        wanted = np.asarray(expected.resize(size, Image.Resampling.BOX)).astype(int)
        difference = np.abs(np.asarray(Image.open(io.BytesIO(body))).astype(int) - wanted)
        assert np.percentile(difference, 98) <= 2


async def test_directories_that_contradict_libvips_are_damage(
    pool: ImagingPool, tmp_path: Path
) -> None:
    tags = tiffs.basic_tags(64, 64, 2)
    path = tmp_path / "t.tif"
    path.write_bytes(tiffs.assemble({**tags, 256: (tiffs.SHORT, 0)}, [bytes(64 * 64 * 3)]))
    with pytest.raises(Damaged):
        await pool.probe(path)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"II*\x00", id="a header in part"),
        pytest.param(b"II*\x00\x08\x00\x00\x00\x01", id="a directory in part"),
        pytest.param(b"II*\x00\xff\xff\xff\xff", id="outside the file"),
        pytest.param(b"MM\x00*\x00\x00\x00\x00", id="no directory"),
        *(
            pytest.param(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 2**n), id=f"at 2**{n}")
            for n in (40, 45, 55, 63)
        ),
    ],
)
def test_a_file_without_a_readable_directory_is_damaged(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "t.tif").write_bytes(body)
    with pytest.raises(Damaged):
        read_picture(tmp_path / "t.tif")


def test_numpy_and_tifffile_are_loaded_only_when_a_file_needs_them() -> None:
    """They need 15 MB of memory and a quarter of a second in each process."""
    code = (
        "import sys, orchestrator.imaging.pool, orchestrator.imaging.workers.decode_worker;"
        "print([m for m in ('numpy', 'tifffile', 'imagecodecs') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_command_lets_numpy_start_no_threads() -> None:
    """With one for each of 64 processors, a decode worker would reach its limit of memory."""
    code = (
        "import os, sys; from orchestrator.cli import main; sys.argv = ['orchestrator', '--help']\n"
        "try: main()\n"
        "except SystemExit: print(os.environ['OPENBLAS_NUM_THREADS'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("\n1")
