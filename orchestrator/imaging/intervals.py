"""Sets of bytes of a file, as sorted intervals that do not touch each other."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise

Span = tuple[int, int]
"""(offset of the first byte, offset after the last byte)."""


class Spans:
    """A set of bytes."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[Span]:
        """The intervals, in order."""
        return zip(self._starts, self._ends, strict=True)

    @property
    def total(self) -> int:
        """The number of bytes in the set."""
        return sum(self._ends) - sum(self._starts)

    def add(self, span: Span) -> None:
        """Add the bytes of `span`. Some or all of them may be in the set already."""
        start, end = span
        if start >= end:
            return
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last], self._ends[first:last] = [start], [end]

    def missing(self, span: Span) -> list[Span]:
        """The parts of `span` that are not in the set, in order."""
        start, end = span
        gaps: list[Span] = []
        for n in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[n] >= end:
                break
            if start < self._starts[n]:
                gaps.append((start, self._starts[n]))
            start = self._ends[n]
        if start < end:
            gaps.append((start, end))
        return gaps


def merge_spans(spans: Iterable[Span], *, gap: int, max_spans: int) -> list[Span]:
    """At most `max_spans` spans that contain all of `spans`. Spans with at most `gap` bytes between
    them become one. While there are still too many, the nearest ones become one.
    """
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1] + gap:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    if len(merged) <= max_spans:
        return merged
    gaps = sorted(b[0] - a[1] for a, b in pairwise(merged))
    return merge_spans(merged, gap=gaps[len(merged) - max_spans - 1], max_spans=max_spans)
