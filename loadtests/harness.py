"""How two things are compared fairly on a noisy machine: in one run, in alternating rounds, with
median and spread of both, and the ratio taken round by round.
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
    """Some values of one figure: the median, and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = list(values)
        return cls(statistics.median(found), min(found), max(found))

    def text(self, unit: str) -> str:
        return f"{_figure(self.median)} {unit} ({_figure(self.low)}-{_figure(self.high)})"


@dataclass(frozen=True)
class Row:
    """One line of the table: a goal of performance.md, our figure and the rival's."""

    bench: str
    what: str
    unit: str
    ours: Spread
    theirs: Spread
    rival: str
    ratio: Spread
    """Ours over theirs, round by round."""
    goal: str = ""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Skipped:
    """A bench that could not run here, and why."""

    bench: str
    why: str


Measured = Mapping[str, float]
"""What one round of one side gave: figure by name."""


@dataclass
class Duel:
    """The rounds of two sides."""

    ours: list[Measured] = field(default_factory=list)
    theirs: list[Measured] = field(default_factory=list)

    def row(
        self,
        bench: str,
        figure: str,
        unit: str,
        *,
        rival: str,
        at_least: float | None = None,
        at_most: float | None = None,
        what: str = "",
        note: str = "",
    ) -> Row:
        """The line for one figure; the goal is a bound of the ratio ours / theirs."""
        ours = [each[figure] for each in self.ours]
        theirs = [each[figure] for each in self.theirs]
        ratio = Spread.of(a / b for a, b in zip(ours, theirs, strict=True))
        return Row(
            bench,
            what or figure,
            unit,
            Spread.of(ours),
            Spread.of(theirs),
            rival,
            ratio,
            *judge(ratio.median, at_least, at_most),
            note,
        )


def judge(ratio: float, at_least: float | None, at_most: float | None) -> tuple[str, bool | None]:
    """The goal in words, and whether the ratio meets it."""
    if at_least is not None:
        return f">= {at_least:g}x", ratio >= at_least
    if at_most is not None:
        return f"<= {at_most:g}x", ratio <= at_most
    return "", None


def alternate(
    rounds: int, ours: Callable[[int], Measured], theirs: Callable[[int], Measured]
) -> Duel:
    """A B A B ...: each side once in every round, told the round's number."""
    duel = Duel()
    for number in range(rounds):
        duel.ours.append(ours(number))
        duel.theirs.append(theirs(number))
    return duel


def table(outcomes: Iterable[Row | Skipped]) -> str:
    """The whole result as text with aligned columns."""
    lines = [("name", "ours", "theirs", "ratio (spread)", "goal", "")]
    notes = []
    for each in outcomes:
        if isinstance(each, Skipped):
            lines.append((each.bench, "skipped", "", "", "", each.why))
            continue
        ratio = f"{each.ratio.median:.2f} ({each.ratio.low:.2f}-{each.ratio.high:.2f})"
        verdict = "" if each.met is None else ("met" if each.met else "MISSED")
        ours = each.ours.text(each.unit)
        theirs = f"{each.rival} {each.theirs.text(each.unit)}"
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


def write_results(outcomes: Iterable[Row | Skipped], about: Mapping[str, Any]) -> Path:
    """The same as JSON under `loadtests/results/`; the path."""
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
    """Three significant digits, thousands as k."""
    if value >= 10_000:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
