"""How many processor cores of the host are idle: what the kernel counts in /proc/stat and, in a
container with a quota of processor time, what is left of the quota.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC_STAT = Path("/proc/stat")
_GROUP = Path("/sys/fs/cgroup")
"""In a container, the control group (version 2) of the container itself."""
_MEASURED_S = 1.0


@dataclass(frozen=True, slots=True)
class _Sample:
    """Processor seconds since the start of the host or of the group; `used` is that of the group.
    `quota` is in cores, None without one.
    """

    taken_at: float
    idle: float
    used: float
    quota: float | None


async def measure_idle_cores(
    over_s: float = _MEASURED_S, stat: Path = _PROC_STAT, group: Path = _GROUP
) -> float:
    """The mean number of idle cores within the next `over_s` seconds; 0 if the kernel does not say
    it.
    """
    try:
        before = _take_sample(stat, group)
        await asyncio.sleep(over_s)
        after = _take_sample(stat, group)
    except (OSError, ValueError, IndexError):
        return 0.0
    elapsed_s = max(after.taken_at - before.taken_at, 1e-3)
    idle = (after.idle - before.idle) / elapsed_s
    if after.quota is None:
        return idle
    return min(idle, after.quota - (after.used - before.used) / elapsed_s)


def _take_sample(stat: Path, group: Path) -> _Sample:
    """Raises OSError, ValueError, IndexError. The kernel answers these reads from memory."""
    fields = stat.read_text(encoding="ascii").split("\n", 1)[0].split()
    ticks = int(fields[4]) + int(fields[5])  # idle, and idle while a disk is waited for
    quota, used = None, 0.0
    with suppress(OSError, ValueError, IndexError):
        limit, period = (group / "cpu.max").read_text(encoding="ascii").split()
        if limit != "max":
            usage = (group / "cpu.stat").read_text(encoding="ascii").split()
            used = int(usage[usage.index("usage_usec") + 1]) / 1e6
            quota = int(limit) / int(period)
    return _Sample(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), used, quota)
