"""Compares two builds of libvips: processor milliseconds for each kind of work, one thread.

python -m loadtests.micro.bench_libvips OTHER_PYTHON [--rounds 5]

OTHER_PYTHON is the interpreter of another environment, with `pyvips` and `pyvips-binary`. Rounds
of both alternate. Each figure is the median over the rounds (ADR 33).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Figures = dict[str, float]


def main() -> None:
    """Print one line for each kind of work."""
    from loadtests.collection import harvest_jpeg, harvest_pyramid

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", help="the Python interpreter of the other environment")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    files = [str(harvest_jpeg()), str(harvest_pyramid())]
    sides: dict[str, list[Figures]] = {sys.executable: [], arguments.other: []}
    for _ in range(arguments.rounds):
        for python, rounds in sides.items():
            words = [python, __file__, *files]
            answer = subprocess.run(words, stdout=subprocess.PIPE, check=True)
            rounds.append(json.loads(answer.stdout))
    ours, theirs = sides.values()
    for work in ours[0]:
        medians = [statistics.median(each[work] for each in side) for side in (ours, theirs)]
        print(f"{work:40} {medians[0]:8.1f} ms  other {medians[1]:8.1f} ms")


def measure(jpeg: str, pyramid: str) -> Figures:
    """Processor milliseconds of each kind of work, in this process."""
    import pyvips
    from pyvips.voperation import concurrency_set

    pyvips.cache_set_max(0)
    concurrency_set(1)
    image = pyvips.Image
    photograph = image.new_from_file(jpeg).copy_memory()
    tile = photograph.crop(512, 512, 512, 512).copy_memory()

    def cut(edge: int) -> Any:
        region = image.new_from_file(pyramid).crop(512, 512, edge, edge)
        return region.resize(512 / edge, kernel="lanczos3").jpegsave_buffer(Q=80)

    def convert() -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = image.new_from_file(jpeg, access="sequential")
            options = {"tile": True, "pyramid": True, "tile_width": 256, "tile_height": 256}
            source.tiffsave(str(Path(folder) / "a.tif"), compression="jpeg", Q=90, **options)

    works: dict[str, tuple[int, Callable[[], object]]] = {
        "resize 12 MP to 2,000 px": (2, lambda: photograph.resize(0.5).write_to_memory()),
        "thumbnail of 1,000 px": (2, lambda: image.thumbnail(jpeg, 1000).jpegsave_buffer(Q=80)),
        "region of 700 px of a pyramid as 512 px": (20, lambda: cut(700)),
        "tile of 512 px of a pyramid": (20, lambda: cut(512)),
        "JPEG of 512 px": (20, lambda: tile.jpegsave_buffer(Q=80)),
        "JPEG of 12 MP": (2, lambda: photograph.jpegsave_buffer(Q=80)),
        "WebP of 512 px": (20, lambda: tile.webpsave_buffer(Q=80, effort=1)),
        "JPEG to a pyramid TIFF": (1, convert),
    }
    figures = {}
    for name, (times, work) in works.items():
        work()
        before = _processor_s()
        for _ in range(times):
            work()
        figures[name] = (_processor_s() - before) * 1000 / times
    return figures


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].endswith(".jpg"):
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        main()
