"""P16: pyramid TIFFs of originals of 12 to 50 megapixels by `pyramid convert`, compared
with a shell loop of `vips tiffsave` on the same files with the same options.

Both loops of the reference are measured: one file after the other on all cores, and one process per
core; the faster one counts in each round. Ours also decodes each original completely before it
writes, and checks what it wrote.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from loadtests.benches.context import Context
from loadtests.collection import originals
from loadtests.harness import Measured, Row, alternate
from loadtests.wrk import LoadError
from tests.support.reference_servers import ServerMissingError
from tests.support.serve_process import COMMAND

_SAMPLE_S = 0.05
_FORMS = {
    "JPEG tiles of 256 pixels": (
        ["--tile", "256", "--compression", "jpeg", "--quality", "90"],
        "--compression jpeg --Q 90 --tile-width 256 --tile-height 256",
    ),
    "deflate, tiles of 512 pixels": (
        ["--tile", "512", "--compression", "deflate"],
        "--compression deflate --predictor horizontal --tile-width 512 --tile-height 512",
    ),
}
"""The options of both sides, by what they mean."""


def p16(context: Context) -> list[Row]:
    """Images per minute, processor time and peak memory of both sides, for two forms of tiles."""
    if shutil.which("vips") is None:
        raise ServerMissingError("vips is not installed: apt-get install libvips-tools")
    folder = context.scratch / "originals"
    folder.mkdir()
    files = [Path(shutil.copy(path, folder)) for path in originals()]
    rows: list[Row] = []
    for name, (ours, theirs) in _FORMS.items():
        comparison = alternate(
            context.rounds,
            partial(_convert, context.scratch / "ours", files, ours),
            partial(_fastest_loop, context.scratch / "theirs", files, theirs),
        )
        note = f"{len(files)} originals (JPEG, TIFF) per round"
        rows.append(
            comparison.row(
                "P16",
                "images/min",
                "/min",
                reference="vips loop",
                at_least=0.9,
                what=f"pyramids, {name}",
                note=note,
            )
        )
        for figure, unit in (("processor", "s"), ("memory", "MB")):
            what = f"{'processor time' if figure == 'processor' else 'peak memory'}, {name}"
            rows.append(comparison.row("P16", figure, unit, reference="vips loop", what=what))
    return rows


def _convert(folder: Path, files: list[Path], options: list[str], _round: int) -> Measured:
    words = [str(COMMAND), "pyramid", "convert", str(files[0].parent), str(folder), "--json"]
    return _measure([*words, *options], folder, len(files))


def _fastest_loop(folder: Path, files: list[Path], options: str, _round: int) -> Measured:
    """The faster one of the two loops: over files on all cores, or one process per core."""
    line = f'vips tiffsave "$1" "$2/$(basename "$1").tif" --tile --pyramid --strip {options}'
    loops = []
    for processes in (1, os.cpu_count() or 1):
        names = " ".join(f"'{path}'" for path in files)
        command = f"printf '%s\\0' {names} | xargs -0 -P {processes} -I{{}} "
        command += f"sh -ec '{line}' sh {{}} '{folder}'"
        loops.append(_measure(["bash", "-c", command], folder, len(files)))
    return max(loops, key=lambda each: each["images/min"])


def _measure(command: list[str], folder: Path, expected: int) -> Measured:
    """Run `command`, which writes `expected` files into `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = subprocess.Popen(
        ["nice", "-n", "10", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peak = _PeakMemory(process.pid)
    _, errors = process.communicate()
    took = time.perf_counter() - began
    memory = peak.stop()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    written = len(list(folder.glob("*.tif")))
    if process.returncode or written != expected:
        raise LoadError(f"{command[0]} wrote {written} files: {errors[-300:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"images/min": 60 * expected / took, "processor": used, "memory": memory}


class _PeakMemory:
    """Samples the memory of a process and its children: the private parts, and shares of common
    ones (PSS).
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The highest sample in MB."""
        self._ended.set()
        self._thread.join()
        return self._peak / 1e6

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            with suppress(psutil.Error):
                parent = psutil.Process(self._pid)
                each = [parent, *parent.children(recursive=True)]
                self._peak = max(self._peak, sum(_pss(process) for process in each))


def _pss(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0
