"""Probes and renders files in this one process, as a decode worker does: for runs under valgrind.

    python -m tests.support.render_files FILE...

Prints one line for each file: its name, then "pixels" or the code of the refusal. Any other
exception ends the process with a traceback.
"""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.errors import OrchestratorError
from orchestrator.imaging import Encoder, Recipe, vips
from orchestrator.imaging.open_pictures import OpenPictures
from orchestrator.imaging.probe import Bounds, probe
from orchestrator.imaging.render import render
from orchestrator.imaging.workers import decode_worker

_SMALL = 100
_BOUNDS = Bounds(20_000_000, 100)


def main(paths: list[str]) -> None:
    """Render each file twice: a region at full scale, and the whole at about 100 pixels."""
    vips.restrict(sandboxed=True)
    pictures = OpenPictures(64 * 1024**2, sandboxed=True)
    for path in paths:
        print(Path(path).name, _verdict(path, pictures), flush=True)


def _verdict(path: str, pictures: OpenPictures) -> str:
    try:
        with decode_worker.translate_errors(path):
            found = probe(Path(path), _BOUNDS)
            width, height = found.dimensions
            tile = (0, 0, min(256, width), min(256, height))
            small = (max(1, width * _SMALL // max(width, height)),
                     max(1, height * _SMALL // max(width, height)))  # fmt: skip
            for region, size in ((tile, tile[2:]), ((0, 0, width, height), small)):
                recipe = Recipe(path, found.kind, found.dimensions, found.levels, region, size,
                                format="jpg", encoder=Encoder())  # fmt: skip
                render(recipe, pictures)
    except OrchestratorError as error:
        return error.code
    return "pixels"


if __name__ == "__main__":
    main(sys.argv[1:])
