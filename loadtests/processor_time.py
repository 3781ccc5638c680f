"""The processor time of a server: it is hardly disturbed by other load of the machine."""

from __future__ import annotations

import psutil


def cpu_seconds(pid: int) -> float:
    """Seconds of processor time of a process and its children, without the database."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)
