"""What the kernel says of processes that may end at any moment: then the answer is that of none."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil


def is_alive(pid: int) -> bool:
    """True if the process runs; False for a zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def parent_of(pid: int) -> int:
    """The process id of the parent; 0 if the process has ended."""
    try:
        return int(psutil.Process(pid).ppid())
    except psutil.NoSuchProcess:
        return 0


def open_files(pid: int) -> int:
    """How many descriptors the process has open, without files in memory, which caches keep; 0 if
    it has ended.
    """
    count = 0
    with suppress(FileNotFoundError):
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208  iterdir leaves its own open
            with suppress(FileNotFoundError):  # closed since
                target = os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115  no path exists
                count += not target.startswith("/memfd:")
    return count


def resident_bytes(pid: int) -> int:
    """The resident memory; 0 if the process has ended."""
    return _memory(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """The most resident memory so far; 0 if the process has ended."""
    return _memory(pid, "VmHWM")


def _memory(pid: int, name: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    kilobytes = [int(line.split()[1]) for line in status.splitlines() if line.startswith(name)]
    return sum(kilobytes) * 1024
