"""How much longer than on a quiet machine tests wait."""

from __future__ import annotations

import os

ANSWER_S = 10.0
"""Time after which a silent database counts as away, where a test is about something else. The
shortest of the product, 0.8 s, is less than what a busy machine may need for one fsync.
"""
PATIENT_DATABASE = {"ORCHESTRATOR_DATABASE__ANSWER_TIMEOUT_S": str(ANSWER_S)}
"""The same in the environment of a process."""


def patience() -> float:
    """1 on a quiet machine; on a busy one, how many processes want each processor. Multiply a
    deadline by it.
    """
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
