"""What the processes of an installation know of each image server, read from its metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.instruments import PREFIX


@dataclass(slots=True)
class NodeFigures:
    """One node of a pool, as all processes together see it."""

    pool: str
    node: str
    in_flight: int = 0
    latency_ms: int = 0
    """In which it answered 95 of its last 100 requests; 0 if it got none."""
    slow_in: int = 0
    """Processes to which it is slow."""
    open_in: int = 0
    """Processes whose breaker for it is open."""
    failures: int = 0
    """Failed requests and canaries since the start."""
    last_error: str = ""
    last_error_at: float = 0.0
    """Unix time of the last error."""

    @property
    def state(self) -> Literal["answers", "slow", "away"]:
        """The worst of what any process knows."""
        if self.open_in:
            return "away"
        return "slow" if self.slow_in else "answers"

    @property
    def breaker(self) -> Literal["closed", "open"]:
        """`open` if that of any process is open."""
        return "open" if self.open_in else "closed"

    def describe(self, now: Callable[[], float] = time.time) -> str:
        """The figures in one line."""
        text = (
            f"{self.state}, {self.in_flight} in flight, latency {self.latency_ms} ms, "
            f"breaker {self.breaker}"
        )
        if self.last_error:
            ago_s = max(0, round(now() - self.last_error_at))
            text += f", last error {self.last_error} {ago_s} s ago"
        return text


def node_figures(metrics_text: str) -> list[NodeFigures]:
    """The figures of all nodes, in the order of their pools and addresses; `metrics_text` is what
    /metrics answers.
    """
    nodes: dict[tuple[str, str], NodeFigures] = {}
    # Only these lines: parsing all metrics takes some tens of milliseconds.
    marks = (f"{PREFIX}image_server_", f"# TYPE {PREFIX}image_server_")
    lines = [line for line in metrics_text.splitlines() if line.startswith(marks)]
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            if "node" in sample.labels:
                key = sample.labels["pool"], sample.labels["node"]
                figures = nodes.setdefault(key, NodeFigures(*key))
                name = sample.name.removeprefix(f"{PREFIX}image_server_")
                _add(figures, name, sample.value, sample.labels.get("reason", ""))
    return [nodes[key] for key in sorted(nodes)]


def _add(figures: NodeFigures, name: str, value: float, reason: str) -> None:
    match name:
        case "in_flight":
            figures.in_flight = int(value)
        case "latency_seconds":
            figures.latency_ms = round(value * 1000)
        case "slow":
            figures.slow_in = int(value)
        case "breaker_open":
            figures.open_in = int(value)
        case "failures_total":
            figures.failures += int(value)
        case "last_failure_timestamp_seconds" if value > figures.last_error_at:
            figures.last_error, figures.last_error_at = reason, value
