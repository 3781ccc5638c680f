"""`samples`: makes a collection of images to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import print_line, track_progress


def samples(
    folder: Annotated[Path, typer.Argument(help="Folder to write the images to.")],
) -> None:
    """Make the sample collection, which includes a fractal of 100 megapixels. Files that exist are
    kept.
    """
    from orchestrator.imaging.samples import COLLECTION, make_samples

    with track_progress("samples") as tracker:
        tracker.set_total(len(COLLECTION))
        for path in make_samples(folder):
            tracker.advance(path.name)
    print_line(f"{len(COLLECTION)} images in {folder}")
