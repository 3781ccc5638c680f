"""Recognises a file in memory (memfd), which may hold only parts of a source."""

from __future__ import annotations

from pathlib import Path

_NAME = "/memfd:"


def is_in_memory(descriptor: int) -> bool:
    """True for an open file without a name in any file system. Its holes are bytes that were not
    fetched.
    """
    return str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith(_NAME)


def is_memory_path(path: str) -> bool:
    """True for the path of a file in memory: that of a descriptor of the process that holds it."""
    return path.startswith("/proc/")
