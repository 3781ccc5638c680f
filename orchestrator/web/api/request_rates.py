"""Requests per second by tier, and the state of image servers, for the page for people.

The counters are those of /metrics. They are read only while a person looks at the page: nothing is
sampled otherwise.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.instruments import PREFIX
from orchestrator.metrics import render_metrics
from orchestrator.routing.image_servers.node_figures import NodeFigures, node_figures

OTHER = "other"
"""Requests that no tier answered: documents, pages, errors."""
TIERS = (
    "memory",
    "disk",
    "thumb",
    "stored",
    "resize",
    "range",
    "imageserver",
    "original",
    "special",
    OTHER,
)
"""The tiers in the order of their cost."""
WINDOW_S = 180.0
"""How far the chart goes back."""
_SHORTEST_S = 1.0
_MAX_SAMPLES = 200
_SAMPLE = re.compile(
    rf'^{PREFIX}requests_total{{[^}}]*?tier="(\w*)"[^}}]*}} ([0-9.e+]+)$', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Interval:
    """What was answered between two samples."""

    began_s: float
    """Seconds before now at which it began; `ended_s` likewise."""
    ended_s: float
    per_second: Mapping[str, float]
    """Requests per second by tier."""

    @property
    def total(self) -> float:
        """Requests per second of all tiers."""
        return sum(self.per_second.values())


@dataclass(frozen=True, slots=True)
class RequestFigures:
    """The figures of one look: totals since the start, the intervals of the chart, the latest last,
    and the image servers.
    """

    totals: Mapping[str, float]
    intervals: tuple[Interval, ...]
    image_servers: tuple[NodeFigures, ...] = ()

    @property
    def latest(self) -> Mapping[str, float]:
        """Requests per second by tier in the latest interval."""
        return self.intervals[-1].per_second if self.intervals else {}


class RequestRates:
    """The samples of the last minutes."""

    def __init__(
        self,
        read: Callable[[], str] = lambda: render_metrics().decode(),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read` returns the metrics as text; it may block."""
        self._read = read
        self._now = now
        self._samples: deque[tuple[float, Mapping[str, float]]] = deque(maxlen=_MAX_SAMPLES)
        self._image_servers: tuple[NodeFigures, ...] = ()
        self._lock = asyncio.Lock()

    async def look(self) -> RequestFigures:
        """Take a sample, unless the last one is less than a second old, and return the figures."""
        async with self._lock:
            if not self._samples or self._now() - self._samples[-1][0] >= _SHORTEST_S:
                text = await asyncio.to_thread(self._read)
                self._samples.append((self._now(), count_by_tier(text)))
                self._image_servers = tuple(node_figures(text))
        now = self._now()
        pairs = zip(self._samples, list(self._samples)[1:], strict=False)
        intervals = tuple(
            Interval(now - begin, now - end, _rates(before, after, end - begin))
            for (begin, before), (end, after) in pairs
            if now - begin <= WINDOW_S
        )
        return RequestFigures(self._samples[-1][1], intervals, self._image_servers)


def count_by_tier(metrics: str) -> dict[str, float]:
    """Return the requests since the start by tier, from metrics as text."""
    totals: dict[str, float] = {}
    for tier, value in _SAMPLE.findall(metrics):
        name = tier if tier in TIERS else OTHER
        totals[name] = totals.get(name, 0.0) + float(value)
    return totals


def _rates(
    before: Mapping[str, float], after: Mapping[str, float], seconds: float
) -> dict[str, float]:
    # A counter that is lower than before is that of a process that started again.
    changes = {tier: max(after[tier] - before.get(tier, 0.0), 0.0) for tier in after}
    return {tier: change / seconds for tier, change in changes.items()}
