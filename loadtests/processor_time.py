"""The processor time of servers: it is hardly disturbed by other load of the machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import psutil

from loadtests.harness import Measured


def cpu_seconds(pid: int) -> float:
    """Seconds of processor time of a process and its children, without the database."""
    process = psutil.Process(pid)
    return _sum_of((process, *process.children(recursive=True)))


def cpu_seconds_of_references() -> float:
    """Seconds of processor time of all nginx and iipsrv that this process has started."""
    names = ("nginx", "iipsrv.fcgi")
    children = psutil.Process().children(recursive=True)
    return _sum_of(tuple(each for each in children if _name_of(each) in names))


def with_processor(measure: Callable[[], Measured], cpu: Callable[[], float]) -> Measured:
    """The figures of `measure` and `processor`, in milliseconds per request. They must have
    `requests`.
    """
    before = cpu()
    figures = measure()
    return {**figures, "processor": 1000 * (cpu() - before) / figures["requests"]}


def _sum_of(processes: tuple[psutil.Process, ...]) -> float:
    seconds = 0.0
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            seconds += times.user + times.system
    return seconds


def _name_of(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return process.name()
    return ""
