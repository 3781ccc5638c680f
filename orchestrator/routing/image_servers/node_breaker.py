"""The circuit breaker of one node: whether requests are sent to it. Pure, but for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

FAILURES_TO_OPEN = 3
"""Failures without a success between them. One may be the fault of a single picture."""
OPEN_S = 2.0
"""Where nothing else probes the node, one request tries it after this time."""


class NodeBreaker:
    """Opens after some failures in succession. While it is open, the node gets no requests but the
    probe, and the first success closes it.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures = 0
        self._tried_at = 0.0
        self.is_open = False

    @property
    def may_probe(self) -> bool:
        """True if the breaker is open and half-opens now, for one request."""
        return self.is_open and self._now() - self._tried_at >= OPEN_S

    def on_probe(self) -> None:
        """One request tries the node: no other one does so for the next `OPEN_S` seconds."""
        self._tried_at = self._now()

    def on_success(self) -> bool:
        """The node answered. True if this closes the breaker."""
        was_open, self.is_open, self._failures = self.is_open, False, 0
        return was_open

    def on_failure(self) -> bool:
        """The node did not answer. True if this opens the breaker."""
        self._failures += 1
        self._tried_at = self._now()
        if self.is_open or self._failures < FAILURES_TO_OPEN:
            return False
        self.is_open = True
        return True
