"""The same file has the same verdict each time, with any number of threads and by every policy. A
file of which pixels are missing never becomes a tile-ready source.
"""

from __future__ import annotations

import ctypes
import hashlib
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pyvips
import tifffile
from PIL import Image

from orchestrator.errors import Damaged, NoRoom, TooLarge, Unprocessable
from orchestrator.imaging import FAST_LOSSY, FASTEST, ConversionPolicy, vips
from orchestrator.imaging.full_disk import full_disk_reported
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.workers import decode_worker
from orchestrator.model import SourceKind
from tests.support import pictures
from tests.support.small_disks import mounted

SIZE = (331, 247)
Picture = tuple[str, Callable[[Path], object]]


def interlaced_png(path: Path) -> None:
    """A PNG in seven passes. Pillow and libvips write it in different ways; a decoder keeps all."""
    image = pyvips.Image.new_from_array(pictures.pattern(*SIZE)).copy(interpretation="srgb")
    path.write_bytes(image.pngsave_buffer(interlace=True))


def tiled_tiff(path: Path) -> None:
    """Tiles of 128 pixels without levels, so that it is converted."""
    image = pyvips.Image.new_from_array(pictures.pattern(*SIZE)).copy(interpretation="srgb")
    options = {"tile_width": 128, "tile_height": 128, "compression": "deflate"}
    path.write_bytes(image.tiffsave_buffer(tile=True, **options))


def turned_jpeg(path: Path) -> None:
    """A JPEG that is turned by 90 degrees, so that its conversion reads columns."""
    image = Image.fromarray(pictures.pattern(*SIZE))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, "jpeg", quality=90, exif=exif)


PICTURES: tuple[Picture, ...] = (
    ("jpeg", lambda path: pictures.jpeg(path, *SIZE)),
    ("progressive jpeg", lambda path: pictures.progressive_jpeg(path, *SIZE)),
    ("turned jpeg", turned_jpeg),
    ("png", lambda path: pictures.png(path, *SIZE)),
    ("interlaced png", interlaced_png),
    ("webp", lambda path: pictures.webp(path, *SIZE)),
    ("tiff in strips", lambda path: pictures.tiff(path, *SIZE)),
    ("tiff in tiles", tiled_tiff),
    ("gif", lambda path: pictures.gif(path, *SIZE)),
)
EACH = pytest.mark.parametrize(
    "make", [make for _, make in PICTURES], ids=[name for name, _ in PICTURES]
)


def convert(path: str, policy: ConversionPolicy, limits: decode_worker.WorkerLimits) -> str:
    """The verdict of one conversion: the code of the error, or a hash of the source's pixels."""
    target = Path(path).with_name("source")
    try:
        decode_worker.convert(path, str(target), policy, None, limits)
        if policy is not FASTEST:
            return "ready"
        image = pyvips.Operation.call("tiffload", str(target))
        return hashlib.sha256(image.write_to_memory()).hexdigest()
    except (Unprocessable, TooLarge) as error:
        return error.code
    finally:
        target.unlink(missing_ok=True)


def verdicts(path: str, limits: decode_worker.WorkerLimits, runs: int) -> list[str]:
    """The different verdicts of conversions with one thread and with two."""
    seen = {
        convert(path, FASTEST, replace(limits, cores=threads))
        for threads in (1, 2)
        for _ in range(runs)
    }
    return sorted(seen)


def all_verdicts(
    bodies: list[bytes], folder: str, limits: decode_worker.WorkerLimits, runs: int
) -> list[list[str]]:
    """For each file its different verdicts; the last one is that of the conversion to JPEG2000."""
    path = Path(folder, "picture")
    results = []
    for body in bodies:
        path.write_bytes(body)
        lossy = convert(str(path), FAST_LOSSY, limits)
        results.append([*verdicts(str(path), limits, runs), lossy])
    return results


def truncations(body: bytes, parts: int) -> Iterator[bytes]:
    """The file cut after each of `parts` equal parts, and without its last bytes."""
    for n in range(1, parts):
        yield body[: len(body) * n // parts]
    for missing in (1, 2, 3, 12):
        yield body[:-missing]


def flips(body: bytes, number: int) -> Iterator[bytes]:
    """The file with one bit changed, at random places."""
    source = random.Random(11)
    for _ in range(number):
        changed = bytearray(body)
        changed[source.randrange(len(body))] ^= 1 << source.randrange(8)
        yield bytes(changed)


async def check(pool: ImagingPool, folder: Path, make: object, *, parts: int, runs: int) -> None:
    """Convert truncated and changed forms of a picture, and compare their verdicts."""
    assert callable(make)
    make(folder / "whole")
    body = (folder / "whole").read_bytes()
    whole, cut = [body], list(truncations(body, parts))
    changed = list(flips(body, parts))
    lane, limits = pool._heavy, pool._heavy_limits
    before, _ = await lane.run(decode_worker.report_ready, timeout_s=60)
    results = await lane.run(
        all_verdicts, [*whole, *cut, *changed], str(folder), limits, runs, timeout_s=300
    )
    assert lane.pids == (before,), "a worker ended"
    assert {len(each) for each in results} == {2}, "different verdicts of one file"
    right = results[0][0]
    for position, (fastest, lossy) in enumerate(results):
        assert (len(fastest) < 64 or lossy == "ready") and (lossy != "ready" or len(fastest) == 64)
        if 0 < position <= len(cut) and len(fastest) == 64:
            assert fastest == right, "an incomplete file was accepted with missing pixels"


@EACH
async def test_a_damaged_file_has_the_same_verdict_each_time(
    pool: ImagingPool, tmp_path: Path, make: object
) -> None:
    await check(pool, tmp_path, make, parts=12, runs=1)


@pytest.mark.soak
@EACH
async def test_many_damaged_files_have_the_same_verdict_each_time(
    pool: ImagingPool, tmp_path: Path, make: object
) -> None:
    await check(pool, tmp_path, make, parts=50, runs=5)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of one megabyte."""
    with mounted(tmp_path / "disk", "size=1m") as at:
        yield at


@pytest.mark.parametrize("policy", [FASTEST, FAST_LOSSY], ids=lambda policy: policy.name)
async def test_a_full_disk_is_not_a_fault_of_the_picture(
    pool: ImagingPool, tmp_path: Path, full_disk: Path, policy: ConversionPolicy
) -> None:
    noise = pyvips.Image.gaussnoise(2500, 2000, mean=128, sigma=60).cast("uchar")
    (tmp_path / "a").write_bytes(noise.jpegsave_buffer(Q=95))
    with pytest.raises(NoRoom, match="disk space"):
        await pool.convert(tmp_path / "a", full_disk / "source", policy)
    assert (await pool.convert(tmp_path / "a", tmp_path / "source", policy)).width == 2500


def test_a_scratch_file_on_a_full_disk_is_reported_as_that(full_disk: Path) -> None:
    image = pyvips.Image.black(3000, 3000)
    with pytest.raises(NoRoom), full_disk_reported(full_disk):
        vips.write_scratch(image, str(full_disk / "scratch.v"))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("VipsJpeg: Insufficient memory (case 4)", "too_large"),
        ("glib: Error creating thread: Resource temporarily unavailable", "too_large"),
        ("heif: Memory allocation error: Security limit exceeded (6.1000)", "too_large"),
        ("heif: Image size 17408x1024 exceeds the maximum image size 16384x16384", "too_large"),
        ("pngload: libspng read error: unexpected end of file", "damaged"),
        ("tiff2vips: Compression scheme 99 is not implemented", "unsupported"),
        ("/pictures/unsupported/out of memory.png: bad chunk", "damaged"),
    ],
)
def test_the_text_of_a_decoder_selects_the_code_and_the_path_does_not(text: str, code: str) -> None:
    error = vips.as_public_error(vips.VipsError(text), "/pictures/unsupported/out of memory.png")
    assert error.code == code
    assert "/" not in error.public


async def test_a_pyramid_that_ends_before_its_last_tile_is_refused_when_it_is_registered(
    pool: ImagingPool, tmp_path: Path
) -> None:
    whole = pictures.pyramid_tiff(tmp_path / "whole.tif", 1100, 900)
    assert (await pool.probe(whole)).kind is SourceKind.PYRAMID_TIFF
    # A writer may put directories and small levels first (COG). So the last tiles are missing.
    moved = tmp_path / "moved.tif"
    with tifffile.TiffFile(whole) as file:
        offsets = file.pages[0].tags["TileOffsets"]
        body = bytearray(whole.read_bytes())
        end = len(body)
        struct.pack_into("<I", body, offsets.valueoffset, end)
        body += body[offsets.value[0] : offsets.value[0] + file.pages[0].databytecounts[0]]
    moved.write_bytes(bytes(body))
    assert (await pool.probe(moved)).kind is SourceKind.PYRAMID_TIFF
    moved.write_bytes(bytes(body[:-1]))
    with pytest.raises(Damaged, match="incomplete"):
        await pool.probe(moved)


def test_messages_about_an_earlier_file_have_no_part_in_a_verdict(tmp_path: Path) -> None:
    """libvips keeps messages that no error reported, and appends them to the next error."""
    path = tmp_path / "cut.jpg"
    pictures.truncated(path, pictures.jpeg(tmp_path / "whole.jpg", *SIZE), 0.02)
    texts = []
    for stale in (b"", b"premature end of file", b"out of memory"):
        if stale:
            ctypes.CDLL("libvips.so.42").vips_error(b"earlier", stale)
        with (
            pytest.raises((Unprocessable, TooLarge)) as refused,
            decode_worker.translate_errors(str(path)),
        ):
            vips.load("jpeg", str(path)).avg()
        texts.append(refused.value.public)
    assert len(set(texts)) == 1
