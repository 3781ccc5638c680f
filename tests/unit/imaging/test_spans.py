"""Sets of byte intervals, compared with plain sets of numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.imaging.intervals import Span, Spans, merge_spans

SPAN = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair)))


def bytes_of(spans: list[Span]) -> set[int]:
    return {byte for span in spans for byte in range(*span)}


@given(st.lists(SPAN, max_size=12), SPAN)
def test_a_set_contains_exactly_the_added_bytes(added: list[Span], queried: Span) -> None:
    spans = Spans()
    for span in added:
        spans.add(span)
    present = bytes_of(added)
    assert spans.total == len(present)
    assert bytes_of(list(spans)) == present
    assert all(a[1] < b[0] for a, b in pairwise(spans)), (
        "intervals must be sorted and must not touch"
    )
    missing = spans.missing(queried)
    assert bytes_of(missing) == bytes_of([queried]) - present
    assert all(a < b for a, b in missing)
    assert all(a[1] < b[0] for a, b in pairwise(missing))


@given(st.lists(SPAN.filter(lambda span: span[0] < span[1]), max_size=12), st.integers(1, 5))
def test_merged_spans_contain_all_bytes_and_are_at_most_the_requested_number(
    spans: list[Span], most: int
) -> None:
    result = merge_spans(spans, gap=3, max_spans=most)
    assert bytes_of(spans) <= bytes_of(result)
    assert len(result) <= most
    assert all(b[0] - a[1] > 3 for a, b in pairwise(result))


def test_the_nearest_spans_are_merged_first() -> None:
    spans = [(0, 10), (12, 20), (100, 110), (130, 140), (1000, 1010)]
    assert merge_spans(spans, gap=5, max_spans=9) == [(0, 20), (100, 110), (130, 140), (1000, 1010)]
    assert merge_spans(spans, gap=5, max_spans=3) == [(0, 20), (100, 140), (1000, 1010)]
    assert merge_spans(spans, gap=5, max_spans=1) == [(0, 1010)]
