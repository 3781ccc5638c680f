"""The performance page is made of the newest result of each bench."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from loadtests import curves_report
from loadtests.harness import Row, Spread
from loadtests.report import DOCS, PROFILES, page, plot, read_newest, read_points


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


def a_point(curve: str, line: str, at: str, p50: float) -> dict[str, Any]:
    names = {"kind": "point", "bench": "P17", "curve": curve, "line": line, "at": at}
    return names | {"p50_ms": p50, "p99_ms": 3 * p50, "processor_ms": p50 / 2}


def test_the_page_has_the_points_of_the_newest_curves_and_a_line_for_each(tmp_path: Path) -> None:
    tier = a_point("tier", "memory", "", 0.4)
    points = [a_point("clients", "hot tile", at, 2.0) for at in ("1", "16", "256")]
    points += [a_point("megapixels", kind, "10", 40.0) for kind in ("JPEG2000", "pyramid TIFF")]
    contents = [{"rows": [a_point("clients", "old", "1", 1)]}, {"rows": [tier, *points]}]
    contents.append({"rows": [{"kind": "row", "bench": "P1"}]})
    paths = [tmp_path / f"{number}.json" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(json.dumps(content))
    found = read_points(paths)
    assert found == [tier, *points]
    text = curves_report.section(found)
    assert "| tier | memory |  | 0.4 ms | 1.2 ms | 0.2 ms |" in text
    assert "| clients | hot tile | 256 | 2 ms | 6 ms | 1 ms |" in text
    drawing = ElementTree.fromstring(curves_report.plot(found))
    lines = list(drawing.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == 2 * 3  # p50 and p99 of each line; the tiers are only in the table


def test_the_page_has_the_profiles_of_missed_goals_and_of_no_other_bench() -> None:
    text = (DOCS / "performance.md").read_text()
    missed = {line.split()[1] for line in text.splitlines() if line.endswith("| missed |")}
    profiled = re.findall(r"^### (P\d+)$", PROFILES.read_text(), re.MULTILINE)
    assert profiled
    assert set(profiled) <= missed
    assert PROFILES.read_text() in text, "run python -m loadtests.report"
