"""The order in which a worker asks the lanes for jobs. Pure."""

from __future__ import annotations

from orchestrator.catalog.batches import Lane

PRIORITY_WEIGHT = 4
"""Claims that try the priority lane first, for each one that tries the normal lane first."""


class LaneRotation:
    """Decides for each claim which lane is tried first; the other lane is tried when the first has
    no job.
    """

    def __init__(self) -> None:
        self._turn = 0

    def next(self) -> tuple[Lane, Lane]:
        """Both lanes in the order in which the next claim tries them."""
        self._turn = (self._turn + 1) % (PRIORITY_WEIGHT + 1)
        return ("priority", "normal") if self._turn else ("normal", "priority")
