"""Compares two servers fairly on a noisy machine: in one run, in alternating rounds, with the
median and the spread of both, and the ratio computed for each round.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Spread:
    """The values of one figure over all rounds: median, lowest and highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        samples = list(values)
        return cls(statistics.median(samples), min(samples), max(samples))

    def text(self, unit: str) -> str:
        return f"{_figure(self.median)} {unit} ({_figure(self.low)}-{_figure(self.high)})"


@dataclass(frozen=True)
class Row:
    """One line of the table: our figure, the figure of the reference, and the goal."""

    bench: str
    what: str
    unit: str
    ours: Spread
    theirs: Spread
    reference: str
    """Name of the server or program that we are compared with."""
    ratio: Spread
    """Ours divided by theirs, computed for each round."""
    goal: str = ""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Point:
    """One point of a curve: milliseconds of an answer, and of the processor for each request."""

    bench: str
    curve: str
    """What grows, as `clients`."""
    line: str
    at: str
    p50_ms: float
    p99_ms: float
    processor_ms: float


@dataclass(frozen=True)
class Skipped:
    """A bench that cannot run on this machine, and the reason."""

    bench: str
    reason: str


Measured = Mapping[str, float]
"""The figures of one round of one side, by name."""


@dataclass
class Comparison:
    """The rounds of two sides."""

    ours: list[Measured] = field(default_factory=list)
    theirs: list[Measured] = field(default_factory=list)

    def row(
        self,
        bench: str,
        figure: str,
        unit: str,
        *,
        reference: str,
        at_least: float | None = None,
        at_most: float | None = None,
        what: str = "",
        note: str = "",
    ) -> Row:
        """The line for one figure. The goal is a limit for the ratio ours / theirs."""
        ours = [each[figure] for each in self.ours]
        theirs = [each[figure] for each in self.theirs]
        ratio = Spread.of(a / b for a, b in zip(ours, theirs, strict=True))
        return Row(
            bench,
            what or figure,
            unit,
            Spread.of(ours),
            Spread.of(theirs),
            reference,
            ratio,
            *judge(ratio.median, at_least, at_most),
            note,
        )


def judge(ratio: float, at_least: float | None, at_most: float | None) -> tuple[str, bool | None]:
    """The goal as text, and True if the ratio meets it."""
    if at_least is not None:
        return f">= {at_least:g}x", ratio >= at_least
    if at_most is not None:
        return f"<= {at_most:g}x", ratio <= at_most
    return "", None


def alternate(
    rounds: int, ours: Callable[[int], Measured], theirs: Callable[[int], Measured]
) -> Comparison:
    """Run both sides once in every round, ours first. Each side gets the number of the round."""
    comparison = Comparison()
    for number in range(rounds):
        comparison.ours.append(ours(number))
        comparison.theirs.append(theirs(number))
    return comparison


def table(outcomes: Iterable[Row | Point | Skipped]) -> str:
    """The results as text with aligned columns."""
    lines = [("name", "ours", "theirs", "ratio (spread)", "goal", "")]
    notes = []
    for each in outcomes:
        if isinstance(each, Skipped):
            lines.append((each.bench, "skipped", "", "", "", each.reason))
            continue
        if isinstance(each, Point):
            name = f"{each.bench} {each.curve}, {each.line} {each.at}".rstrip()
            p50, p99 = _figure(each.p50_ms), _figure(each.p99_ms)
            used = f"processor {_figure(each.processor_ms)} ms"
            lines.append((name, f"p50 {p50} ms, p99 {p99} ms", used, "", "", ""))
            continue
        ratio = f"{each.ratio.median:.2f} ({each.ratio.low:.2f}-{each.ratio.high:.2f})"
        verdict = "" if each.met is None else ("met" if each.met else "MISSED")
        ours = each.ours.text(each.unit)
        theirs = f"{each.reference} {each.theirs.text(each.unit)}"
        lines.append((f"{each.bench} {each.what}", ours, theirs, ratio, each.goal, verdict))
        if each.note:
            notes.append(f"{each.bench} {each.what}: {each.note}")
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    rows = [
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    rows.insert(1, "-" * len(rows[0]))
    return "\n".join([*rows, *notes])


def write_results(outcomes: Iterable[Row | Point | Skipped], about: Mapping[str, Any]) -> Path:
    """Write the results as JSON below `loadtests/results/`; returns the path."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    rows = [{"kind": type(each).__name__.lower(), **_plain(each)} for each in outcomes]
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = RESULTS / f"bench-{stamp}.json"
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "load": os.getloadavg()}
    path.write_text(json.dumps({"time": stamp, **about, **machine, "rows": rows}, indent=1))
    return path


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def _figure(value: float) -> str:
    """A figure with three significant digits, thousands as k."""
    if value >= 10_000:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
