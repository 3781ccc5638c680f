"""The sizing page computes with what was measured: the benchmarks, the policies, the simulator."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from orchestrator.scavenger.simulator import Simulation
from orchestrator.scavenger.traces import LongTail

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import sizing_page as sizing  # noqa: E402

PERFORMANCE = (ROOT / "docs" / "performance.md").read_text()


def measured(row: str) -> float:
    """Our figure in a row of the benchmarks."""
    match = re.search(rf"^\| {re.escape(row)} \| ([\d.,]+) ", PERFORMANCE, re.M)
    assert match, row
    return float(match[1].replace(",", ""))


@pytest.mark.parametrize(
    ("row", "constant"),
    [
        ("P2 disk cache, processor each", sizing.HIT_MS),
        ("P5 tiles, processor each, JPEG2000, 512 px tiles", sizing.TILE_MS["fast-lossy"]),
        ("P5 tiles, processor each, pyramid TIFF, 512 px", sizing.TILE_MS["fastest"]),
    ],
)
def test_the_costs_of_requests_are_those_of_the_benchmarks(row: str, constant: float) -> None:
    """Within a factor of two: the page is a guide, and the machines of the benchmarks differ."""
    assert constant / 2 <= measured(row) <= constant * 2, "change scripts/sizing_page.py"


@pytest.mark.parametrize("policy", ["fast-lossy", "fastest"])
def test_bytes_and_seconds_of_an_image_are_those_of_the_policies(policy: str) -> None:
    text = (ROOT / "docs" / "policies.md").read_text()
    [(size, seconds)] = re.findall(rf"^\| `{policy}` \| ([\d.]+) \| ([\d.]+) \|", text, re.M)
    assert float(size) == sizing.MB_PER_MEGAPIXEL[policy]
    assert float(seconds) == sizing.INGEST_S_PER_MEGAPIXEL[policy]


def test_the_hit_ratio_is_that_of_the_simulator() -> None:
    trace = LongTail(requests=100_000, objects=50_000, crawlers=0)
    quota = int(trace.objects * (trace.mean_bytes + 2_500) * sizing.CACHED_PART)
    simulation = Simulation(["lru"], [quota])
    simulation.feed(trace.read())
    [outcome] = simulation.outcomes()
    assert outcome.hit_ratio == pytest.approx(sizing.HIT_RATIO, abs=0.02)


def test_ten_million_images_need_what_the_page_says() -> None:
    """The arithmetic once more, by hand."""
    collection = sizing.COLLECTIONS[1]
    assert sizing.source_mb("fast-lossy") == pytest.approx(24 * 0.20 + 0.15)
    assert sizing.ms_per_request("fast-lossy") == pytest.approx(0.009 + 0.6 + 10.15)
    cores = sizing.serve_cores(collection, "fast-lossy")
    assert cores == pytest.approx(1000 * 0.2 * 10.759 / 1000 / 0.5)
    assert sizing.hosts(cores) == 2
    assert sizing.ingest_cores(collection, "fast-lossy") == pytest.approx(15.3, abs=0.1)
    page = (ROOT / "docs" / "sizing.md").read_text()
    assert "| object store | 5.0 TB | 50 TB | 5.0 PB |" in page
    assert "| cores that serve | 0.4 | 4.3 | 86 |" in page
