"""The progress of a folder's ingest: housekeeping writes it to a file, and the `serve` command
shows it.

The file is below the data directory and is always replaced as a whole. Nothing depends on it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

READING_HEADERS, CONVERTING = "reading headers", "converting"
"""The stages of a folder's ingest."""
WRITE_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage, and how many of how many images are done in it."""

    name: str
    done: int
    total: int


class ProgressFile:
    """Records the progress of one stage; called with (done, total).

    Writes at most five times a second, and always when all is done.
    """

    def __init__(self, data_dir: Path, stage: str) -> None:
        self._path = _path(data_dir)
        self._stage = stage
        self._next_write = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Write the progress. A disk that cannot be written to does not stop the ingest."""
        now = time.monotonic()
        if done < total and now < self._next_write:
            return
        self._next_write = now + WRITE_EVERY_S
        temporary = self._path.with_name(f"{self._path.name}.new")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(f"{self._stage}\n{done}\n{total}\n")
            temporary.replace(self._path)


def read_progress(data_dir: Path) -> Stage | None:
    """The stage that was written last; None if there is none."""
    with suppress(OSError, ValueError):
        name, done, total = _path(data_dir).read_text().splitlines()
        return Stage(name, int(done), int(total))
    return None


def delete_progress(data_dir: Path) -> None:
    """Delete the progress of an earlier run."""
    with suppress(OSError):
        _path(data_dir).unlink()


def forget_registration(data_dir: Path) -> None:
    """Remove the marker of an earlier run. A restart of housekeeping does not do this: it makes no
    serve process unready.
    """
    registered_marker(data_dir).unlink(missing_ok=True)


def registered_marker(data_dir: Path) -> Path:
    """The file that exists once this run of the installation has read the headers of its folder, or
    found that it cannot be read: from then on serve processes are ready.
    """
    return data_dir / "run" / "registered"


def _path(data_dir: Path) -> Path:
    return data_dir / "run" / "progress"
