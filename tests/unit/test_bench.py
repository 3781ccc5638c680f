"""The benchmark harness: its arithmetic, its table, and how it reads the report of wrk."""

from __future__ import annotations

import pytest

from loadtests.benches.tiles import distinct_tiles
from loadtests.benches.transforms import shapes
from loadtests.harness import Skipped, Spread, alternate, table
from loadtests.wrk import LoadError, parse

REPORT = """Running 1s test @ http://127.0.0.1:1/same.jpg
  1 threads and 16 connections
  Latency Distribution
     50%  158.00us
     75%  190.00us
     90%    1.10ms
     99%    2.50ms
  99824 requests in 1.10s, 1.19GB read
Requests/sec:  90750.51
Transfer/sec:      1.08GB
"""


def test_rounds_alternate_and_the_ratio_is_computed_for_each_round() -> None:
    order = []

    def side(name: str, values: list[float]) -> object:
        def run(number: int) -> dict[str, float]:
            order.append(f"{name}{number}")
            return {"rate": values[number]}

        return run

    comparison = alternate(3, side("A", [10, 40, 30]), side("B", [10, 20, 20]))  # type: ignore[arg-type]
    row = comparison.row("P0", "rate", "/s", reference="other", at_least=1.2)
    assert order == ["A0", "B0", "A1", "B1", "A2", "B2"]
    assert row.ratio == Spread(1.5, 1.0, 2.0)
    assert row.ours == Spread(30, 10, 40)
    assert row.met is True


def test_the_table_shows_missed_goals_and_the_reasons_of_skipped_benches() -> None:
    comparison = alternate(1, lambda _: {"p99": 9.0}, lambda _: {"p99": 3.0})
    row = comparison.row("P1", "p99", "ms", reference="nginx", at_most=2.0)
    text = table([row, Skipped("P11", "the script is not here")])
    assert "MISSED" in text
    assert "3.00 (3.00-3.00)" in text
    assert "the script is not here" in text


def test_a_report_of_wrk_is_read_in_requests_and_milliseconds() -> None:
    load = parse(REPORT)
    assert (load.requests_s, load.p50_ms, load.p99_ms) == (90750.51, 0.158, 2.5)


@pytest.mark.parametrize(
    "line",
    ["  Non-2xx or 3xx responses: 12", "  Socket errors: connect 0, read 3, write 0, timeout 0"],
)
def test_a_report_with_failed_responses_is_an_error(line: str) -> None:
    with pytest.raises(LoadError, match=line.strip()[:12]):
        parse(REPORT + line)


def test_no_tile_is_requested_twice_in_a_round() -> None:
    tiles = distinct_tiles(3)
    assert len(set(tiles)) == len(tiles) == 48


def test_no_shape_is_requested_twice_in_any_round() -> None:
    found = [shape for number in range(5) for shape in shapes(number)]
    assert len(set(found)) == len(found) == 300
