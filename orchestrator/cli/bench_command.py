"""`bench`: runs the benchmarks of the project's checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.errors import InvalidInput


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Benchmarks to run: P1, P2 ... [default: all].")
    ] = None,
) -> None:
    """Run the benchmarks: this product and the reference servers, in one table. Needs a checkout of
    the project.
    """
    root = Path(__file__).parents[2]
    if not (root / "loadtests" / "bench.py").exists():
        raise InvalidInput(
            "The benchmarks are not installed. Clone the project and run `make bench` there."
        )
    process = subprocess.run(  # noqa: S603  our own program; the names are its arguments
        [sys.executable, "-m", "loadtests.bench", *(names or [])], cwd=root, check=False
    )
    raise typer.Exit(process.returncode)
