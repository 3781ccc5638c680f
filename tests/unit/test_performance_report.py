"""The performance page is made of the newest result of each bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from loadtests.harness import Row, Spread
from loadtests.report import page, plot, read_newest


def result(time: str, *rows: Row) -> dict[str, Any]:
    plain = [
        {name: getattr(row, name) for name in ("bench", "what", "unit", "reference", "goal", "met")}
        | {
            name: {"median": each.median, "low": each.low, "high": each.high}
            for name, each in (("ours", row.ours), ("theirs", row.theirs), ("ratio", row.ratio))
        }
        | {"kind": "row", "note": row.note}
        for row in rows
    ]
    return {"time": time, "cores": 2, "rows": [*plain, {"kind": "skipped", "bench": "P9"}]}


def a_row(bench: str, ratio: float, goal: str, met: bool | None) -> Row:
    ours, theirs = Spread(ratio, ratio, ratio), Spread(1, 1, 1)
    return Row(bench, "a < b", "ms", ours, theirs, "nginx", ours, goal, met, "a note")


def test_the_page_has_the_newest_result_of_each_bench(tmp_path: Path) -> None:
    old = result("1", a_row("P11", 7, "<= 2x", False), a_row("P2", 0.4, ">= 0.5x", False))
    new = result("2", a_row("P11", 1, "<= 2x", True))
    paths = [tmp_path / "bench-1.json", tmp_path / "bench-2.json"]
    for path, content in zip(paths, (old, new), strict=True):
        path.write_text(json.dumps(content))
    rows, about = read_newest(paths)
    assert [(row["bench"], row["ours"]["median"]) for row in rows] == [("P2", 0.4), ("P11", 1)]
    text = page(rows, about)
    assert "| P11 a < b | 1 ms | nginx: 1 ms | 1.00 (1.00-1.00) | <= 2x | met |" in text
    assert "- P2 a < b: a note" in text
    drawing = ElementTree.fromstring(plot(rows))
    texts = [each.text for each in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["P2 a < b", "0.80", "P11 a < b", "2.00"]
