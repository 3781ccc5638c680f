"""The registry of the product's metrics, and the kinds of instruments that are declared in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from orchestrator.metric_files import use_allocated_files

PREFIX = "orchestrator_"
REGISTRY = CollectorRegistry()
LATENCY_BUCKETS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
)  # fmt: skip
BLOCKED_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1)
AGE_BUCKETS_S = (1, 10, 60, 600, 3600, 21_600, 86_400, 604_800, 2_592_000)
COPY_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@dataclass(frozen=True, slots=True)
class Instrument:
    """One line of docs/metrics.md."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


use_allocated_files()
# Several processes have no `_created` series: an installation has the same names with one process.
disable_created_metrics()  # type: ignore[no-untyped-call]
documented: list[Instrument] = []
"""Every metric, in the order of its declaration."""


def counter(name: str, text: str, *labels: str) -> Counter:
    """A counter, in the registry and in the documentation."""
    documented.append(Instrument(f"{PREFIX}{name}_total", "counter", labels, text))
    return Counter(PREFIX + name, text, labels, registry=REGISTRY)


def gauge(
    name: str,
    text: str,
    *labels: str,
    over: Literal["livesum", "livemax", "livemostrecent"] = "livesum",
) -> Gauge:
    """A gauge, in the registry and in the documentation.

    `over`: how the values of several processes are combined: the sum, the greatest, or the one that
    was set last.
    """
    documented.append(Instrument(PREFIX + name, "gauge", labels, text))
    return Gauge(PREFIX + name, text, labels, registry=REGISTRY, multiprocess_mode=over)


def histogram(
    name: str, text: str, *labels: str, buckets: tuple[float, ...] = LATENCY_BUCKETS_S
) -> Histogram:
    """A histogram, in the registry and in the documentation."""
    documented.append(Instrument(PREFIX + name, "histogram", labels, text))
    return Histogram(PREFIX + name, text, labels, registry=REGISTRY, buckets=buckets)
