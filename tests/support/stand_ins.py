"""What the supervisor's tests run in place of the product's processes: each does one thing, well or
badly.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from orchestrator.settings import Settings


def note(settings: Settings, role: str, index: int) -> Path:
    """Leave a file that says who runs; its name has the process id."""
    path = settings.data_dir / f"{role}-{index}-{os.getpid()}"
    path.write_text(os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""))
    return path


def polite(settings: Settings, role: str, index: int) -> None:
    """Runs until SIGTERM, then takes a moment to finish, says so and ends; notes SIGHUP."""
    path = note(settings, role, index)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    signal.signal(signal.SIGHUP, lambda *_: path.with_suffix(".reopened").touch())
    path.with_suffix(".ready").touch()
    while not told:
        time.sleep(0.02)
    time.sleep(0.3)
    path.with_suffix(".drained").touch()


def stubborn(settings: Settings, role: str, index: int) -> None:
    """Runs for ever, whatever it is told."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(settings, role, index).with_suffix(".ready").touch()
    while True:
        time.sleep(1)


def broken(settings: Settings, role: str, index: int) -> None:
    """Cannot start."""
    note(settings, role, index)
    sys.exit(3)


def brief(settings: Settings, role: str, index: int) -> None:
    """Returns at once, as the only process of an installation may."""
    note(settings, role, index)
