"""The memory that a conversion needs stays below the limit in docs/policies.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import pyvips

from orchestrator.imaging import FAST_LOSSY, FASTEST, POLICIES, ConversionPolicy
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.source_writer import ThumbnailRequest
from orchestrator.settings import Imaging
from tests.support import pictures

WORKER_MB = 300
"""A decode worker uses less than this for any striped or tiled original, in every policy."""
DEFLATE = replace(FASTEST, name="deflate", compression="deflate", tile=512)
EACH = pytest.mark.parametrize("policy", POLICIES.values(), ids=lambda policy: policy.name)


def a_large_tiff(path: Path, width: int, height: int) -> Path:
    """One pattern, repeated, with a gradient over it."""
    block = pyvips.Image.new_from_array(pictures.pattern(1000, 1000))
    tiled = block.replicate(-(-width // 1000), -(-height // 1000)).crop(0, 0, width, height)
    shade = pyvips.Image.xyz(width, height)[0] * (60 / width)
    image = (tiled - shade).cast("uchar").copy(interpretation="srgb")
    image.tiffsave(str(path), compression="lzw", bigtiff=True)
    return path


async def peak_mb(original: Path, folder: Path, policy: ConversionPolicy) -> float:
    """The peak resident memory of the worker that makes source and thumbnails of `original`."""
    pool = ImagingPool(Imaging(processes=1, max_pixels=300_000_000))
    try:
        size = (await pool.probe(original)).dimensions
        (pid,) = pool.pids
        sizes = tuple((edge, edge * size[1] // size[0]) for edge in (1000, 400))
        source, thumbnails = await pool.convert_with_thumbnails(
            original, folder / "source", policy, ThumbnailRequest(sizes, folder, 90)
        )
        assert source.dimensions == size
        assert all(path.stat().st_size for path in thumbnails)
        status = Path(f"/proc/{pid}/status").read_text()
    finally:
        await pool.close()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


@pytest.fixture(scope="module")
def fifty_megapixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_large_tiff(tmp_path_factory.mktemp("large") / "large.tif", 8200, 6100)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "policy",
    [FASTEST, *(pytest.param(each, marks=pytest.mark.soak) for each in (FAST_LOSSY, DEFLATE))],
    ids=lambda policy: policy.name,
)
async def test_fifty_megapixels_are_converted_within_the_documented_memory(
    fifty_megapixels: Path, tmp_path: Path, policy: ConversionPolicy
) -> None:
    peak = await peak_mb(fifty_megapixels, tmp_path, policy)
    print(f"{policy.name}: {peak:.0f} MB")
    assert peak < WORKER_MB


@pytest.mark.soak
@EACH
async def test_two_hundred_megapixels_are_converted_within_the_documented_memory(
    tmp_path: Path, policy: ConversionPolicy
) -> None:
    original = a_large_tiff(tmp_path / "large.tif", 16_400, 12_200)
    peak = await peak_mb(original, tmp_path, policy)
    print(f"{policy.name}: {peak:.0f} MB")
    assert peak < WORKER_MB


@pytest.mark.soak
@EACH
async def test_a_tiled_jpeg2000_of_two_hundred_megapixels_is_converted_within_the_memory(
    tmp_path: Path, policy: ConversionPolicy
) -> None:
    large = a_large_tiff(tmp_path / "large.tif", 16_400, 12_200)
    original = tmp_path / "large.jp2"
    pool = ImagingPool(Imaging(processes=1, max_pixels=300_000_000))
    try:
        await pool.convert(large, original, FAST_LOSSY)
    finally:
        await pool.close()
    peak = await peak_mb(original, tmp_path, policy)
    print(f"{policy.name}: {peak:.0f} MB")
    assert peak < WORKER_MB


async def peaks_of_pyramid(original: Path, folder: Path, policy: ConversionPolicy) -> list[float]:
    """The peak resident memory in MB of each worker that writes and checks a pyramid."""
    pool = ImagingPool(Imaging(processes=1))
    try:
        facts = await pool.pyramids.write(original, folder / "pyramid.tif", policy)
        assert await pool.pyramids.check(folder / "pyramid.tif") == facts
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in pool.pids]
    finally:
        await pool.close()
    lines = [line for text in statuses for line in text.splitlines() if line.startswith("VmHWM:")]
    return [int(line.split()[1]) / 1024 for line in lines]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("policy", [FASTEST, DEFLATE], ids=lambda policy: policy.compression)
async def test_a_gigapixel_becomes_a_pyramid_within_a_gigabyte(
    tmp_path: Path, policy: ConversionPolicy
) -> None:
    original = a_large_tiff(tmp_path / "large.tif", 32_000, 31_250)
    peaks = await peaks_of_pyramid(original, tmp_path, policy)
    print(f"{policy.compression}: {peaks} MB")
    assert sum(peaks) < 1000
