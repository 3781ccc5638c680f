"""The figures and the chart of requests by tier on the page of /admin."""

from __future__ import annotations

import pytest

from orchestrator import metrics
from orchestrator.web.api.rate_chart import HEIGHT, WIDTH, draw_chart
from orchestrator.web.api.request_rates import WINDOW_S, Interval, RequestRates, count_by_tier


def a_sample(tier: str, value: float, status: str = "200") -> str:
    labels = f'request_class="tile",status="{status}",tier="{tier}"'
    return f"orchestrator_requests_total{{{labels}}} {value}\n"


class Counters:
    """Metrics as text, and a clock, both set by the test."""

    def __init__(self) -> None:
        self.text, self.time, self.reads = "", 0.0, 0

    def read(self) -> str:
        self.reads += 1
        return self.text


def test_requests_are_counted_by_tier_and_those_without_a_known_tier_together() -> None:
    text = a_sample("memory", 3) + a_sample("memory", 1, "304") + a_sample("", 2)
    text += a_sample("unknown", 5) + 'orchestrator_other_total{tier="memory"} 9\n'
    assert count_by_tier(text) == {"memory": 4.0, "other": 7.0}


def test_the_counters_are_read_from_the_metrics_of_the_product() -> None:
    before = count_by_tier(metrics.render_metrics().decode()).get("memory", 0.0)
    metrics.REQUESTS.labels("memory", "200", "tile").inc(3)
    assert count_by_tier(metrics.render_metrics().decode())["memory"] == before + 3


async def test_a_rate_is_the_difference_of_two_looks_and_never_negative() -> None:
    counters = Counters()
    rates = RequestRates(counters.read, lambda: counters.time)
    counters.text = a_sample("memory", 100) + a_sample("disk", 50)
    first = await rates.look()
    assert (first.intervals, first.latest) == ((), {})
    counters.time = 2.0
    counters.text = a_sample("memory", 140) + a_sample("disk", 10)  # a process started again
    second = await rates.look()
    assert second.latest == {"memory": 20.0, "disk": 0.0}
    assert second.totals == {"memory": 140.0, "disk": 10.0}


async def test_several_viewers_cost_one_sample_a_second() -> None:
    counters = Counters()
    rates = RequestRates(counters.read, lambda: counters.time)
    for _ in range(5):
        await rates.look()
    assert counters.reads == 1


async def test_what_is_older_than_the_chart_is_left_out() -> None:
    counters = Counters()
    rates = RequestRates(counters.read, lambda: counters.time)
    counters.text = a_sample("memory", 1)
    for counters.time in (0.0, 10.0, WINDOW_S + 20.0):
        figures = await rates.look()
    assert [each.began_s for each in figures.intervals] == []


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 1), (0.2, 1), (1.5, 2), (7, 10), (21, 50), (99, 100), (5000, 5000)]
)
def test_the_upper_edge_of_the_chart_is_a_round_number(highest: float, top: float) -> None:
    assert draw_chart([Interval(2, 0, {"memory": highest})]).top == top


def test_the_bars_of_an_interval_are_stacked_and_as_wide_as_its_time() -> None:
    chart = draw_chart([Interval(WINDOW_S / 2, 0, {"memory": 5.0, "disk": 5.0})])
    memory, disk = chart.bars
    assert (memory.tier, memory.x, memory.width) == ("memory", WIDTH / 2, WIDTH / 2)
    assert (memory.y, memory.height) == (HEIGHT / 2, HEIGHT / 2)
    assert (disk.y, disk.height) == (0.0, HEIGHT / 2)


def test_an_interval_that_began_before_the_chart_is_cut_at_its_left_edge() -> None:
    [bar] = draw_chart([Interval(2 * WINDOW_S, 0, {"memory": 1.0})]).bars
    assert (bar.x, bar.width) == (0.0, WIDTH)
