"""P16: pyramid TIFFs of originals of 12 and 24 megapixels, compared with a shell loop of
`vips tiffsave` on the same files with the same options.

Two loops of the reference are measured: one file after the other on all cores, and one process per
core; the faster one counts in each round. They run with the nice value of our workers, so that a
busy machine treats both sides alike. Ours also decodes each original completely before it writes,
and checks what it wrote.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

import psutil

from loadtests.benches.context import Context
from loadtests.collection import originals
from loadtests.harness import Measured, Row, alternate
from loadtests.wrk import LoadError
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.pyramid_files import FilePair, convert_file
from orchestrator.ingest.pyramid_policies import PyramidPolicy, policy_of
from orchestrator.settings import Imaging, Pyramids
from tests.support.reference_servers import ServerMissingError
from tests.support.scenes import write_jpeg

_SAMPLE_S = 0.25
_FORMS = {
    "JPEG tiles of 256 pixels": (
        Pyramids(),
        "--compression jpeg --Q 90 --tile-width 256 --tile-height 256",
    ),
    "deflate, tiles of 512 pixels": (
        Pyramids(tile=512, compression="deflate"),
        "--compression deflate --predictor horizontal --tile-width 512 --tile-height 512",
    ),
}
"""The options of both sides, by what they mean."""
_FIGURES = (("processor", "s", "processor time"), ("memory", "MB", "peak memory"))


def p16(context: Context) -> list[Row]:
    """Images per minute, processor time and peak memory of both sides, for two forms of tiles."""
    if shutil.which("vips") is None:
        raise ServerMissingError("vips is not installed: apt-get install libvips-tools")
    files = [path for path in originals() if re.search(r"-(12|24)\.(jpg|tif)$", path.name)]
    rows: list[Row] = []
    with asyncio.Runner() as runner:
        pool = ImagingPool(Imaging())
        try:
            warm = write_jpeg(context.scratch / "warm.jpg", 600, 400)
            for name, (ours, theirs) in _FORMS.items():
                policy, folder = policy_of(ours), context.scratch / "ours"
                runner.run(_convert_all(pool, [warm] * 8, folder, policy))
                comparison = alternate(
                    context.rounds,
                    lambda _, folder=folder, policy=policy: runner.run(
                        _convert_all(pool, files, folder, policy)
                    ),
                    partial(_fastest_loop, context.scratch / "theirs", files, theirs),
                )
                note = f"{len(files)} originals (JPEG, TIFF) per round"
                rate = partial(comparison.row, "P16", reference="vips loop")
                rows.append(
                    rate("images/min", "/min", at_least=0.9, what=f"pyramids, {name}", note=note)
                )
                rows += [rate(key, unit, what=f"{what}, {name}") for key, unit, what in _FIGURES]
        finally:
            runner.run(pool.close())
    return rows


async def _convert_all(
    pool: ImagingPool, files: list[Path], folder: Path, policy: PyramidPolicy
) -> Measured:
    """What the decode workers use for the pyramids of `files`."""
    shutil.rmtree(folder, ignore_errors=True)
    pairs = iter([FilePair(path, folder / f"{n}.tif") for n, path in enumerate(files)])

    async def work() -> None:
        for pair in pairs:
            await convert_file(pool, pair, policy)

    workers = [psutil.Process(pid) for pid in pool.pids]
    before = sum(map(_seconds, workers))
    with _PeakMemory(lambda: workers) as memory:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range((os.cpu_count() or 1) + 1):
                group.create_task(work())
        took = time.perf_counter() - began
    used = sum(map(_seconds, workers)) - before
    return _figures(folder, len(files), took=took, used=used, memory=memory)


def _fastest_loop(folder: Path, files: list[Path], options: str, _round: int) -> Measured:
    """The faster one of the two loops: over files on all cores, or one process per core."""
    line = f'vips tiffsave "$1" "$2/$(basename "$1").tif" --tile --pyramid --strip {options}'
    loops = [_run_loop(folder, files, line, count) for count in (1, os.cpu_count() or 1)]
    return max(loops, key=lambda each: each["images/min"])


def _run_loop(folder: Path, files: list[Path], line: str, processes: int) -> Measured:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = "\0".join(str(path) for path in files)
    command = ["nice", "-n", "10", "xargs", "-0", "-P", str(processes), "-I{}"]
    command += ["sh", "-ec", line, "sh", "{}", str(folder)]
    before = _seconds_of_children()
    began = time.perf_counter()
    loop = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    tree = psutil.Process(loop.pid)
    with _PeakMemory(lambda: tree.children(recursive=True)) as memory:
        _, errors = loop.communicate(names)
        took = time.perf_counter() - began
    if loop.returncode:
        raise LoadError(f"the shell loop failed: {errors[-300:]}")
    used = _seconds_of_children() - before
    return _figures(folder, len(files), took=took, used=used, memory=memory)


def _figures(
    folder: Path, expected: int, *, took: float, used: float, memory: _PeakMemory
) -> Measured:
    written = len(list(folder.glob("*.tif")))
    if written != expected:
        raise LoadError(f"{written} of {expected} files were written")
    rate = 60 * expected / took
    return {"images/min": rate, "processor": used, "memory": memory.peak_bytes / 1e6}


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _seconds_of_children() -> float:
    """The processor time of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _PeakMemory:
    """The highest sum of the memory of some processes: private parts, and shares of common ones
    (PSS), sampled during the block.
    """

    def __init__(self, processes: Callable[[], list[psutil.Process]]) -> None:
        self.peak_bytes = 0
        self._processes = processes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            with suppress(psutil.Error):
                self.peak_bytes = max(self.peak_bytes, sum(map(_pss, self._processes())))


def _pss(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0
