"""What is not a whole pyramid TIFF, or does not have the colours of its original, is refused. What
is damaged never becomes a pyramid.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pyvips

from orchestrator.errors import Damaged, InvalidInput, Unprocessable
from orchestrator.imaging import FASTEST, ConversionPolicy
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.pyramid_check import compare_with_original
from orchestrator.imaging.pyramid_writer import needs_big_tiff
from orchestrator.ingest.pyramid_maker import make_pyramids
from orchestrator.ingest.pyramid_policies import POLICIES, policy_of
from orchestrator.settings import Pyramids
from tests.support import pictures

SIZE = (1100, 900)
DEFLATE = replace(FASTEST, compression="deflate")
EACH = pytest.mark.parametrize("policy", [FASTEST, DEFLATE], ids=["jpeg", "deflate"])
_OFFSETS, _BYTES = 324, 325


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures.png(tmp_path_factory.mktemp("original") / "o.png", *SIZE)


def long_values(body: bytes, tag: int, level: int = 0) -> int:
    """The offset of the values of a tag in a classic TIFF."""
    (at,) = struct.unpack_from("<I", body, 4)
    for _ in range(level):
        (count,) = struct.unpack_from("<H", body, at)
        (at,) = struct.unpack_from("<I", body, at + 2 + 12 * count)
    (count,) = struct.unpack_from("<H", body, at)
    entries = range(at + 2, at + 2 + 12 * count, 12)
    entry = next(each for each in entries if struct.unpack_from("<H", body, each)[0] == tag)
    (offset,) = struct.unpack_from("<I", body, entry + 8)
    return int(offset)


def with_first_tile_moved(body: bytearray, level: int) -> None:
    """The first entry of a level is that of a tile in the middle."""
    for tag in (_OFFSETS, _BYTES):
        at = long_values(body, tag, level)
        body[at : at + 4] = body[at + 16 : at + 20]


def with_first_tile_overwritten(body: bytearray, level: int) -> None:
    (at,) = struct.unpack_from("<I", body, long_values(body, _OFFSETS, level))
    body[at : at + 64] = bytes(64)


def with_the_last_bytes_missing(body: bytearray, level: int) -> None:
    del body[-3000:]


@EACH
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize(
    "change",
    [with_first_tile_moved, with_first_tile_overwritten, with_the_last_bytes_missing],
    ids=lambda change: change.__name__,
)
async def test_a_pyramid_with_a_wrong_tile_is_refused(
    pool: ImagingPool, original: Path, tmp_path: Path, policy: ConversionPolicy, level: int,
    change: Callable[[bytearray, int], None],
) -> None:  # fmt: skip
    path = tmp_path / "pyramid.tif"
    facts = await pool.pyramids.write(original, path, policy)
    assert await pool.pyramids.check(path) == facts
    body = bytearray(path.read_bytes())
    change(body, level)
    path.write_bytes(body)
    with pytest.raises((Unprocessable, InvalidInput)):
        await pool.pyramids.check(path)


async def test_what_is_not_a_whole_pyramid_is_named(pool: ImagingPool, tmp_path: Path) -> None:
    picture = pyvips.Image.new_from_array(pictures.pattern(*SIZE))
    picture.tiffsave(str(tmp_path / "strips.tif"))
    picture.tiffsave(str(tmp_path / "no levels.tif"), tile=True, tile_width=256, tile_height=256)
    picture.jpegsave(str(tmp_path / "picture.jpg"))
    for name, reason in {
        "strips.tif": "no tiles",
        "no levels.tif": "more than one tile of 256 x 256",
        "picture.jpg": "not a TIFF",
    }.items():
        with pytest.raises(InvalidInput, match=reason):
            await pool.pyramids.check(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        await pool.pyramids.check(tmp_path / "nothing.tif")


@EACH
async def test_a_file_with_other_colours_than_the_original_is_not_published(
    pool: ImagingPool, original: Path, tmp_path: Path, policy: ConversionPolicy
) -> None:
    path = tmp_path / "pyramid.tif"
    await pool.pyramids.write(original, path, policy)
    image = pyvips.Image.new_from_array(pictures.pattern(*SIZE)).copy(interpretation="srgb")
    compare_with_original(path, image, policy)
    white = pyvips.Image.black(100, 100, bands=3) + 255
    corner = SIZE[0] - 100, SIZE[1] - 100
    for other in (
        image.insert(white.cast("uchar"), *corner),
        image.linear(1, 20).cast("uchar").copy(interpretation="srgb"),
        image[2].bandjoin([image[1], image[0]]).copy(interpretation="srgb"),
    ):
        with pytest.raises(Damaged):
            compare_with_original(path, other, policy)


@pytest.mark.parametrize("limits", [None, (200, 200)], ids=["full size", "reduced"])
@pytest.mark.parametrize("compression", ["jpeg", "deflate", "webp", "zstd"])
@pytest.mark.parametrize(
    "maker", [pictures.jpeg, pictures.png, pictures.tiff, pictures.webp, pictures.pyramid_tiff]
)
async def test_a_damaged_original_never_becomes_a_pyramid(
    pool: ImagingPool, tmp_path: Path, maker: Callable[..., Path], compression: str,
    limits: tuple[int, int] | None,
) -> None:  # fmt: skip
    whole = maker(tmp_path / "whole", 600, 400)
    options = {"max_width": limits[0], "max_height": limits[1]} if limits else {}
    policy = policy_of(Pyramids.model_validate({"compression": compression, **options}))
    # The last bytes of a pyramid TIFF are its small levels, which are not read.
    for part in (0.5, 0.5 if maker is pictures.pyramid_tiff else 0.95):
        path = pictures.truncated(tmp_path / "half", whole, part)
        with pytest.raises(Unprocessable):
            await make_pyramids(pool, path, policy, tmp_path)


def test_a_bigtiff_is_written_where_the_samples_need_it() -> None:
    for side, bands, kind, is_big in [
        (30_000, 3, "uchar", False),
        (32_000, 3, "uchar", True),
        (20_000, 3, "ushort", False),
        (23_000, 3, "ushort", True),
    ]:
        image = pyvips.Image.black(side, side, bands=bands).cast(kind)
        assert needs_big_tiff(image, FASTEST) is is_big
        assert needs_big_tiff(image, replace(FASTEST, always_big=True))


def test_settings_change_single_options_of_a_policy() -> None:
    assert policy_of(Pyramids()) == POLICIES["default"]
    assert policy_of(Pyramids(policy="parity")) == POLICIES["parity"]
    changed = policy_of(Pyramids(policy="parity", compression="zstd", max_width=9000, subifd=True))
    assert changed.conversion == replace(
        POLICIES["parity"].conversion, compression="zstd", limits=(9000, 4000), subifd=True
    )
    assert changed.copyright_limits == (843, 560)
    full = policy_of(Pyramids(copyright_max_width=500))
    assert full.conversion_for(is_copyrighted=False).limits is None
    assert full.conversion_for(is_copyrighted=True).limits == (500, 1_000_000)
