"""Processes that the supervisor's tests start instead of the product's own. Each has one behaviour,
which its name states.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from orchestrator.settings import Settings


def write_note(settings: Settings, role: str, index: int) -> Path:
    """Write a file named after the role, the index and the process id; return its path."""
    path = settings.data_dir / f"{role}-{index}-{os.getpid()}"
    path.write_text(os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""))
    return path


def ends_on_sigterm(settings: Settings, role: str, index: int) -> None:
    """Run until SIGTERM, drain for 0.3 s and create a `.drained` file; create one for SIGHUP."""
    path = write_note(settings, role, index)
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    signal.signal(signal.SIGHUP, lambda *_: path.with_suffix(".reopened").touch())
    path.with_suffix(".ready").touch()
    while not received:
        time.sleep(0.02)
    time.sleep(0.3)
    path.with_suffix(".drained").touch()


def ignores_sigterm(settings: Settings, role: str, index: int) -> None:
    """Run until SIGKILL; create an `.asked` file for SIGTERM."""
    path = write_note(settings, role, index)
    signal.signal(signal.SIGTERM, lambda *_: path.with_suffix(".asked").touch())
    path.with_suffix(".ready").touch()
    while True:
        time.sleep(1)


def exits_with_status_3(settings: Settings, role: str, index: int) -> None:
    """Fail to start."""
    write_note(settings, role, index)
    sys.exit(3)


def returns_at_once(settings: Settings, role: str, index: int) -> None:
    """Return at once, as the only process of an installation may."""
    write_note(settings, role, index)
