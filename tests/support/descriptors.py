"""How many files, sockets and folders this process has open."""

from __future__ import annotations

import os


def open_descriptors() -> int:
    """All of them, as Linux lists them; the one that reads the list is counted every time."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # iterdir leaves its own open
