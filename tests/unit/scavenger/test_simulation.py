"""Traces from logs and from the generator; hit ratios by policy and quota, sampled ones too."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from orchestrator.scavenger.simulator import POLICIES, Simulation
from orchestrator.scavenger.traces import CacheName, LogReader, LongTail, Request
from orchestrator.web.access_log import AccessRecord, format_line

TILE = "0,0,512,512/512,512/0/default.jpg"


def line(**changes: object) -> bytes:
    given = {
        "asset": "1/1/a",
        "version": 3,
        "request_class": "tile",
        "canonical": TILE,
        "tier": "imageserver",
        "status": 200,
        "bytes": 10_000,
        "method": "GET",
        **changes,
    }
    return format_line(AccessRecord(**given), "id", 1_700_000_000.25)  # type: ignore[arg-type]


def test_a_written_log_line_is_read_as_a_request_with_its_size_on_disk() -> None:
    reader = LogReader()
    ((at, key, size),) = reader.read([line()])
    assert (at, size) == (1_700_000_000.25, 12_288)
    assert 0 <= key < 2**64
    assert (reader.lines, reader.skipped) == (1, {})


def test_equal_products_have_equal_keys_and_different_ones_different_keys() -> None:
    different = [line(), line(version=4), line(asset="1/1/b"), line(canonical="full/max/0/d.png")]
    keys = [key for _, key, _ in LogReader().read([*different, line(tier="disk", bytes=10_000)])]
    assert len(set(keys)) == 4
    assert keys[4] == keys[0]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param(line(status=404), "other", id="an error"),
        pytest.param(line(canonical=""), "other", id="no image request"),
        pytest.param(line(method="HEAD", bytes=0), "other", id="HEAD"),
        pytest.param(line(status=304, bytes=0), "other", id="not modified"),
        pytest.param(line(tier="memory"), "memory", id="from memory"),
        pytest.param(b"half a li", "broken", id="torn"),
        pytest.param(b"", "broken", id="empty"),
        pytest.param(b"[]", "broken", id="a list"),
        pytest.param(b"{}", "broken", id="no fields"),
        pytest.param(line().replace(b"2023", b"20x3"), "broken", id="no time"),
        pytest.param(line().replace(b"10000", b'"1"'), "broken", id="bytes as text"),
        pytest.param(b'{"asset": "\xff"}', "broken", id="no UTF-8"),
    ],
)
def test_lines_that_are_not_simulated_are_counted_by_reason(given: bytes, reason: str) -> None:
    reader = LogReader()
    assert len(list(reader.read([given, line(), given]))) == 1
    assert reader.skipped == Counter({reason: 2})


def test_answers_from_memory_count_if_the_option_says_so() -> None:
    assert list(LogReader(memory=True).read([line(tier="memory")]))


def test_each_answer_of_the_image_server_is_a_request_for_a_source() -> None:
    reader = LogReader("sources", source_bytes=5_000_000)
    lines = [line(), line(canonical="full/max/0/d.png"), line(tier="disk"), line(tier="thumb")]
    requests = list(reader.read(lines))
    assert len(requests) == 2
    assert {key for _, key, _ in requests} == {requests[0][1]}
    assert requests[0][2] == 5_001_216


def test_a_generated_trace_is_repeatable_and_requests_some_keys_much_more_often() -> None:
    trace = LongTail(20_000, 10_000, crawlers=0, fresh=0)
    requests = list(trace.read())
    assert requests == list(trace.read())
    counts = Counter(key for _, key, _ in requests).most_common()
    assert counts[0][1] > 20 * counts[len(counts) // 2][1]
    assert all(a[0] < b[0] for a, b in pairwise(requests))
    sizes = [size for _, _, size in requests]
    assert 10_000 < sum(sizes) / len(sizes) < 25_000


def test_crawlers_request_every_object() -> None:
    requests = LongTail(20_000, 1000, crawlers=2, scanned=0.9).read()
    assert len({key for _, key, _ in requests}) == 1000


def outcomes(
    trace: list[Request], sample: float = 1.0, quotas: tuple[int, ...] = (10_000_000,)
) -> dict[str, list[float]]:
    simulation = Simulation(POLICIES, quotas, sample)
    simulation.feed(trace)
    ratios_of: dict[str, list[float]] = {}
    for each in simulation.outcomes():
        ratios_of.setdefault(each.policy, []).append(each.hit_ratio)
    return ratios_of


TRACE = list(LongTail(20_000, 40_000).read())


def test_a_larger_quota_hits_more_and_no_policy_is_better_than_the_bound() -> None:
    ratios_of = outcomes(TRACE, quotas=(5_000_000, 20_000_000, 80_000_000))
    assert set(ratios_of) == set(POLICIES)
    for ratios in ratios_of.values():
        assert ratios == sorted(ratios)
        assert all(a <= b for a, b in zip(ratios, ratios_of["belady"], strict=True))


def test_with_room_for_everything_only_the_first_request_of_each_key_is_a_miss() -> None:
    first = len({key for _, key, _ in TRACE})
    for ratios in outcomes(TRACE, quotas=(10**12,)).values():
        assert ratios == [pytest.approx(1 - first / len(TRACE))]


def test_a_sample_of_a_tenth_has_nearly_the_ratios_of_all_keys() -> None:
    trace = list(LongTail(100_000, 50_000).read())
    whole = outcomes(trace, quotas=(50_000_000,))
    part = outcomes(trace, 0.1, quotas=(50_000_000,))
    for policy, ratios in whole.items():
        assert part[policy] == [pytest.approx(ratios[0], abs=0.03)], policy


def test_the_working_set_is_estimated_within_a_fifth() -> None:
    trace = list(LongTail(60_000, 40_000).read())
    simulation = Simulation(["belady"], [10**6])
    simulation.feed(trace)
    keys, size = simulation.working_set
    known = {key: size for _, key, size in trace}
    assert keys == pytest.approx(len(known), rel=0.15)
    assert size == pytest.approx(sum(known.values()), rel=0.2)


def test_an_empty_trace_has_no_hits() -> None:
    assert outcomes([]) == {policy: [0.0] for policy in POLICIES}


@pytest.mark.parametrize("cache", ["derivatives", "sources"])
def test_a_trace_can_be_fed_in_parts(cache: CacheName) -> None:
    parts = Simulation(["lru"], [20_000])
    lines = [line(asset=f"1/1/{number % 3}") for number in range(10)]
    reader = LogReader(cache, source_bytes=4096)
    for each in lines:
        parts.feed(reader.read([each]))
    assert parts.requests == reader.lines == 10
