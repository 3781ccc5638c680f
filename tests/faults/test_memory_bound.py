"""A flood of distinct images of 200 megapixels stays within the memory that docs/operations.md
states, and every answer is an image or a deliberate refusal.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import psutil
import pytest
import pyvips

from tests.support.patience import patience
from tests.support.serve_process import ServeProcess, assert_log_clean, run_server

SIZE = (16_000, 12_500)
MB = 1_000_000
LIMIT, WHOLE, SOURCES, MEMORY, HEADS = 2048 * MB, 512 * MB, 64 * MB, 16 * MB, 8 * MB
PROCESSES = 2
"""Decode workers of each lane."""
ENV = {
    "ORCHESTRATOR_IMAGING__MEMORY_LIMIT": str(LIMIT),
    "ORCHESTRATOR_IMAGING__PROCESSES": str(PROCESSES),
    "ORCHESTRATOR_IMAGE_SERVER__DECODE_MEMORY": str(WHOLE),
    "ORCHESTRATOR_DELIVERY__MEMORY_SOURCES": str(SOURCES),
    "ORCHESTRATOR_CACHE__MEMORY": str(MEMORY),
    "ORCHESTRATOR_CACHE__MEMORY_HEADS": str(HEADS),
    "ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original",
    "ORCHESTRATOR_PROMOTION__ENABLED": "false",
}
BOUND = (
    (200 * MB + MEMORY + HEADS + SOURCES)
    + PROCESSES * (250 * MB + LIMIT // 16)
    + PROCESSES * (250 * MB + LIMIT // 4)
    + WHOLE
    + 200 * MB
)
"""The table of docs/operations.md: the serving process, the workers of both lanes, whole images,
and the database.
"""
REQUESTS = ("full/1200,/0", "full/!200,200/0", "4096,4096,512,512/512,/0")


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One colour, so that the files are small and quickly made; decoders do not know it."""
    folder = tmp_path_factory.mktemp("flat")
    black = pyvips.Image.black(*SIZE, bands=3)
    picture = black.linear(1, [200, 120, 40], uchar=True).copy(interpretation="srgb")
    picture.jpegsave(str(folder / "a.jpg"))
    picture.tiffsave(
        str(folder / "a.tif"), tile=True, pyramid=True, compression="jpeg", tile_width=256,
        tile_height=256,
    )  # fmt: skip
    return {path.suffix: path for path in folder.iterdir()}


@contextmanager
def peak_of(server: ServeProcess) -> Iterator[list[int]]:
    """The highest memory of all processes together, in bytes: the sum of their proportional
    sets.
    """
    peak, is_over = [0], threading.Event()

    def measure() -> None:
        while not is_over.wait(0.1):
            peak[0] = max(peak[0], sum(map(_proportional, server.processes())))

    measuring = threading.Thread(target=measure)
    measuring.start()
    try:
        yield peak
    finally:
        is_over.set()
        measuring.join()


def _proportional(pid: int) -> int:
    with suppress(psutil.Error, OSError):
        return int(psutil.Process(pid).memory_full_info().pss)
    return 0


async def flood(addresses: list[str]) -> Counter[int]:
    """Request everything at once; the number of answers by status."""
    timeout = aiohttp.ClientTimeout(total=120 * patience())
    connector = aiohttp.TCPConnector(limit=0)

    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:

        async def fetch(address: str) -> int:
            async with session.get(address) as response:
                body = await response.read()
                if response.status == 503:
                    assert "Retry-After" in response.headers, body
                return response.status

        return Counter(await asyncio.gather(*map(fetch, addresses)))


@pytest.mark.parametrize(
    "copies", [pytest.param(24, marks=pytest.mark.soak), 2], ids=["long", "short"]
)
def test_a_flood_of_distinct_200_megapixel_images_stays_within_the_stated_memory(
    tmp_path: Path, flat: dict[str, Path], copies: int
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = []
    for number in range(copies):
        for suffix, path in flat.items():
            names.append(f"{suffix[1:]}{number}")
            shutil.copyfile(path, folder / f"{names[-1]}{suffix}")
    with run_server(folder, data=tmp_path / "data", env=ENV) as server, peak_of(server) as peak:
        base = f"{server.public}/iiif/3/"
        addresses = [f"{base}{name}/{each}/default.jpg" for each in REQUESTS for name in names]
        statuses = asyncio.run(flood(addresses))
    assert set(statuses) <= {200, 503}, statuses
    assert statuses[200] >= len(names), statuses
    assert peak[0] < BOUND, f"{peak[0] // MB} MB, bound {BOUND // MB} MB"
    assert_log_clean(server.log())
    print(f"{peak[0] // MB} MB of {BOUND // MB} MB, {dict(statuses)}, {os.getloadavg()[0]:.0f}")
