"""Intervals of bytes against plain sets of numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.imaging.intervals import Span, Spans, merge_spans

SPAN = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair)))


def bytes_of(spans: list[Span]) -> set[int]:
    return {byte for span in spans for byte in range(*span)}


@given(st.lists(SPAN, max_size=12), SPAN)
def test_what_was_put_in_is_there_and_nothing_else(added: list[Span], asked: Span) -> None:
    spans = Spans()
    for span in added:
        spans.add(span)
    there = bytes_of(added)
    assert spans.total == len(there)
    assert bytes_of(list(spans)) == there
    assert all(a[1] < b[0] for a, b in pairwise(spans)), "in order, none touches the next"
    missing = spans.missing(asked)
    assert bytes_of(missing) == bytes_of([asked]) - there
    assert all(a < b for a, b in missing)
    assert all(a[1] < b[0] for a, b in pairwise(missing))


@given(st.lists(SPAN.filter(lambda span: span[0] < span[1]), max_size=12), st.integers(1, 5))
def test_merged_spans_hold_all_and_are_few(spans: list[Span], most: int) -> None:
    found = merge_spans(spans, gap=3, max_spans=most)
    assert bytes_of(spans) <= bytes_of(found)
    assert len(found) <= most
    assert all(b[0] - a[1] > 3 for a, b in pairwise(found))


def test_the_nearest_are_merged_first() -> None:
    spans = [(0, 10), (12, 20), (100, 110), (130, 140), (1000, 1010)]
    assert merge_spans(spans, gap=5, max_spans=9) == [(0, 20), (100, 110), (130, 140), (1000, 1010)]
    assert merge_spans(spans, gap=5, max_spans=3) == [(0, 20), (100, 140), (1000, 1010)]
    assert merge_spans(spans, gap=5, max_spans=1) == [(0, 1010)]
