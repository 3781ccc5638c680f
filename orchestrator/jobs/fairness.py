"""Which lane a worker serves next. Pure."""

from __future__ import annotations

from orchestrator.catalog.batches import Lane

PRIORITY_WEIGHT = 4
"""Turns of the priority lane for each one of the normal lane, while both have work."""


class Turns:
    """Which lane comes first, claim by claim; the other one has it when the first has no work."""

    def __init__(self) -> None:
        self._turn = 0

    def next(self) -> tuple[Lane, Lane]:
        """Both lanes, the one whose turn it is first."""
        self._turn = (self._turn + 1) % (PRIORITY_WEIGHT + 1)
        return ("priority", "normal") if self._turn else ("normal", "priority")
