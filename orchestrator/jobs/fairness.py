"""Whose turn it is and how long to wait: pure, but for the dice."""

from __future__ import annotations

import random
from collections.abc import Callable

from orchestrator.catalog.batches import Lane

PRIORITY_WEIGHT = 4
"""Turns of the priority lane for each one of the normal lane, while both have work."""

Dice = Callable[[], float]
"""Uniform from 0 to 1."""


class Turns:
    """Which lane comes first, claim by claim; the other one has it when the first has no work."""

    def __init__(self) -> None:
        self._turn = 0

    def next(self) -> tuple[Lane, Lane]:
        """Both lanes, the one whose turn it is first."""
        self._turn = (self._turn + 1) % (PRIORITY_WEIGHT + 1)
        return ("priority", "normal") if self._turn else ("normal", "priority")


def backoff_s(
    tries: int, *, first_s: float, longest_s: float, factor: float = 2.0, dice: Dice = random.random
) -> float:
    """Seconds to wait after the `tries`th failure (from 1): growing by `factor`, at most
    `longest_s`, and a random part of up to a half taken off, so that not all come back at once.
    """
    exponent = min(max(tries, 1) - 1, 30)
    return float(min(first_s * factor**exponent, longest_s) * (1 - dice() / 2))
