"""How much longer than on a quiet machine a test may wait."""

from __future__ import annotations

import os


def patience() -> float:
    """1 on a quiet machine; on a busy one, how many processes want each processor. Multiply a
    deadline by it.
    """
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
