"""Whether the memory of processes grows for as long as they work."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from tests.support.process_table import resident_bytes
from tests.support.serve_process import ServeProcess

_WARM_UP = 0.4
"""The share of the samples after which caches and allocators have what they need."""


@dataclass
class MemorySamples:
    """Resident megabytes of the processes of a server, without the database, during a run."""

    server: ServeProcess
    megabytes: list[float] = field(default_factory=list)

    def take(self) -> None:
        """Measure now."""
        processes = self.server.processes().items()
        pids = [pid for pid, command in processes if "postgres" not in command]
        self.megabytes.append(sum(map(resident_bytes, pids)) / 1024**2)

    @property
    def growth(self) -> float:
        """By how much the memory grows, from the slope after the warm-up, in megabytes from then
        to the end.
        """
        settled = self.megabytes[int(len(self.megabytes) * _WARM_UP) :]
        slope = statistics.linear_regression(range(len(settled)), settled).slope
        return slope * len(settled)

    def __str__(self) -> str:
        step = max(1, len(self.megabytes) // 20)
        taken = ", ".join(f"{each:.0f}" for each in self.megabytes[::step])
        return f"resident MB {taken}; slope after the warm-up {self.growth:+.1f} MB"
