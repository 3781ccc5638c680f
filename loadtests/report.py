"""`python -m loadtests.report`: writes docs/performance.md and its plots from the newest results in
`loadtests/results/`, for each bench those of its last run.

Only ratios are plotted: figures of different machines cannot be compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from loadtests import curves_report
from loadtests.harness import RESULTS
from loadtests.svg import frame_plot

DOCS = Path(__file__).resolve().parents[1] / "docs"
_PAGE = """# Performance

Written by `python -m loadtests.report` from the newest results of `make bench`; do not edit.

Each bench measures our installed command and a reference program in one run, in alternating rounds,
on one machine with {cores} processors. The figures are medians, with the lowest and highest round
in parentheses; the ratio is ours divided by theirs, computed for each round. Absolute figures hold
for that machine only. What each bench does is in `loadtests/README.md`.

![Ratio of each bench to its goal](performance.svg)

The bars show how far each ratio is from its goal: 1 is the goal, longer is better.

| bench | ours | reference | ratio | goal | |
|---|---|---|---|---|---|
{rows}

{notes}
"""
PROFILES = Path(__file__).with_name("missed_goals.md")
"""Written by hand: where the time of each bench goes that misses its goal, and what was tried."""
_WIDTH, _LABEL, _STEP = 800, 370, 22
_MOST = 4.0
"""Longest bar, in multiples of the goal."""

Rows = list[dict[str, Any]]


def main() -> None:
    """Write the page and the plot."""
    paths = sorted(RESULTS.glob("bench-*.json"))
    rows, about = read_newest(paths)
    if not rows:
        print("There are no results. Run `make bench` first.")
        return
    points = read_points(paths)
    text = page(rows, about) + "\n" + PROFILES.read_text("utf-8")
    if points:
        text += "\n" + curves_report.section(points)
        (DOCS / "curves.svg").write_text(curves_report.plot(points))
    (DOCS / "performance.md").write_text(text)
    (DOCS / "performance.svg").write_text(plot(rows))
    print(f"{len(rows)} rows written to {DOCS / 'performance.md'}")


def read_newest(paths: Iterable[Path]) -> tuple[Rows, dict[str, Any]]:
    """The rows of the last run of each bench, ordered by bench, and what is known of the machine.
    `paths` are ordered by time.
    """
    newest: dict[str, Rows] = {}
    about: dict[str, Any] = {"cores": 0}
    for path in paths:
        result = json.loads(path.read_text())
        measured = [row for row in result["rows"] if row["kind"] == "row"]
        for bench in dict.fromkeys(row["bench"] for row in measured):
            newest[bench] = [
                row | {"time": result["time"]} for row in measured if row["bench"] == bench
            ]
            about = {"cores": result["cores"]}
    order = sorted(newest, key=lambda bench: (int("".join(filter(str.isdigit, bench))), bench))
    return [row for bench in order for row in newest[bench]], about


def read_points(paths: Sequence[Path]) -> Rows:
    """The points of the last run that has any. `paths` are ordered by time."""
    for path in reversed(paths):
        rows = json.loads(path.read_text())["rows"]
        if points := [row for row in rows if row["kind"] == "point"]:
            return points
    return []


def page(rows: Rows, about: dict[str, Any]) -> str:
    """The document."""
    lines = []
    for row in rows:
        verdict = {True: "met", False: "missed", None: ""}[row["met"]]
        unit = row["unit"]
        ratio = row["ratio"]
        lines.append(
            f"| {row['bench']} {row['what']} | {_spread(row['ours'], unit)} "
            f"| {row['reference']}: {_spread(row['theirs'], unit)} "
            f"| {ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f}) "
            f"| {row['goal']} | {verdict} |"
        )
    notes = dict.fromkeys(
        f"- {row['bench']} {row['what']}: {row['note']}" for row in rows if row["note"]
    )
    return _PAGE.format(rows="\n".join(lines), notes="\n".join(notes), **about)


def plot(rows: Rows) -> str:
    """A bar for each row that has a goal as a number: its ratio in multiples of the goal."""
    shown = [(row, score) for row in rows if (score := _score(row)) is not None]
    height = _STEP * (len(shown) + 1)
    scale = (_WIDTH - _LABEL - 60) / _MOST
    parts = [
        f'<line x1="{_LABEL + scale:.0f}" y1="0" x2="{_LABEL + scale:.0f}" y2="{height}" '
        'stroke="#888" stroke-dasharray="3 3"/>',
    ]
    for number, (row, score) in enumerate(shown):
        y = _STEP * number + 4
        colour = "#2a7a3b" if score >= 1 else "#b3541e"
        width = scale * min(score, _MOST)
        name = escape(f"{row['bench']} {row['what']}")
        parts += [
            f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end">{name}</text>',
            f'<rect x="{_LABEL}" y="{y}" width="{width:.1f}" height="14" fill="{colour}"/>',
            f'<text x="{_LABEL + width + 5:.1f}" y="{y + 12}">{score:.2f}</text>',
        ]
    return frame_plot(_WIDTH, height, parts)


def _score(row: dict[str, Any]) -> float | None:
    """The ratio in multiples of the goal, 1 or more if it is met; None without such a goal."""
    direction, _, number = row["goal"].removesuffix("x").partition(" ")
    ratio = row["ratio"]["median"]
    if direction == ">=":
        return ratio / float(number)
    return float(number) / ratio if direction == "<=" and ratio else None


def _spread(spread: dict[str, float], unit: str) -> str:
    low, high = _figure(spread["low"]), _figure(spread["high"])
    middle = f"{_figure(spread['median'])} {unit}".rstrip()
    return middle if low == high else f"{middle} ({low}-{high})"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
