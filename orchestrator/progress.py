"""How far the taking-in of a folder is, told by the process that does it to the command that
shows it.

A small file below the data directory, replaced whole; nothing depends on it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Stage:
    """What is being done, and how many pictures of how many."""

    name: str
    done: int
    total: int


class Told:
    """Called with (done, total); writes at most five times a second, and when all is done."""

    def __init__(self, data_dir: Path, name: str) -> None:
        self._path = _path(data_dir)
        self._name = name
        self._due = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Tell. A disk that cannot be written to is no reason to stop the work."""
        now = time.monotonic()
        if done < total and now < self._due:
            return
        self._due = now + EVERY_S
        fresh = self._path.with_suffix(".new")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(f"{self._name}\n{done}\n{total}\n")
            fresh.replace(self._path)


def told(data_dir: Path) -> Stage | None:
    """What was told last; None when nothing was."""
    with suppress(OSError, ValueError):
        name, done, total = _path(data_dir).read_text().splitlines()
        return Stage(name, int(done), int(total))
    return None


def forget(data_dir: Path) -> None:
    """Take away what an earlier run told."""
    with suppress(OSError):
        _path(data_dir).unlink()


def _path(data_dir: Path) -> Path:
    return data_dir / "run" / "progress"
