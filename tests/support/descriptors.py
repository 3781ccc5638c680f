"""Counts the file descriptors of this process."""

from __future__ import annotations

import os


def open_descriptors() -> int:
    """The number of open descriptors, including the one that reads the list."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # iterdir leaves its own open


def open_memory_files() -> int:
    """The number of open anonymous files in memory. Other threads, as libraries start them, open
    and close descriptors at any time, but not of these.
    """
    return sum(target.startswith("/memfd:") for target in _targets())


def open_sockets() -> int:
    """The number of open sockets, those of the event loop included."""
    return sum(target.startswith("socket:") for target in _targets())


def _targets() -> list[str]:
    targets = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # as above
        try:
            targets.append(os.readlink(f"/proc/self/fd/{name}"))  # noqa: PTH115  # no path exists
        except FileNotFoundError:  # closed since
            continue
    return targets
