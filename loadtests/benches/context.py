"""What every bench is told: how many rounds, how long, and where its scratch lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtests.harness import Row


@dataclass(frozen=True)
class Context:
    """One run of `make bench`."""

    rounds: int
    seconds: float
    """Length of one round of a bench that is measured by time."""
    scratch: Path
    """A temporary folder of this bench's own, removed afterwards."""
    say: Callable[[str], None]
    """Progress, one line."""


Bench = Callable[[Context], list[Row]]
