"""The parameters that every bench gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtests.harness import Point, Row


@dataclass(frozen=True)
class Context:
    """One run of `make bench`."""

    rounds: int
    seconds: float
    """Length of one round of a bench that is measured by time."""
    scratch: Path
    """A temporary folder of this bench, removed afterwards."""
    print_progress: Callable[[str], None]
    """Prints one line of progress."""


Bench = Callable[[Context], list[Row] | list[Point]]
