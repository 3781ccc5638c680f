"""Whether the memory of processes grows for as long as they work."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

_WARM_UP = 0.4
"""The share of the samples after which caches and allocators have what they need."""


@dataclass
class MemorySamples:
    """Resident megabytes of processes during a run."""

    resident_bytes: Callable[[], int]
    megabytes: list[float] = field(default_factory=list)

    def take(self) -> None:
        """Measure now."""
        self.megabytes.append(self.resident_bytes() / 1024**2)

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
