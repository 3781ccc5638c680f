"""Which bytes of a file are there: intervals in order, of which no two touch."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise

Span = tuple[int, int]
"""(first byte, the one after the last)."""


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
        """How many bytes."""
        return sum(self._ends) - sum(self._starts)

    def add(self, span: Span) -> None:
        """Put in the bytes of `span`, which may be there in part."""
        start, end = span
        if start >= end:
            return
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last], self._ends[first:last] = [start], [end]

    def missing(self, span: Span) -> list[Span]:
        """What of `span` is not there, in order."""
        at, end = span
        found: list[Span] = []
        for n in range(bisect_right(self._ends, at), len(self._starts)):
            if self._starts[n] >= end:
                break
            if at < self._starts[n]:
                found.append((at, self._starts[n]))
            at = self._ends[n]
        if at < end:
            found.append((at, end))
        return found


def merged(spans: Iterable[Span], *, gap: int, most: int) -> list[Span]:
    """At most `most` spans that hold all of these: those with at most `gap` bytes between them
    become one, and so do the next nearest while there are too many.
    """
    together: list[Span] = []
    for start, end in sorted(spans):
        if together and start <= together[-1][1] + gap:
            together[-1] = together[-1][0], max(end, together[-1][1])
        else:
            together.append((start, end))
    if len(together) <= most:
        return together
    gaps = sorted(b[0] - a[1] for a, b in pairwise(together))
    return merged(together, gap=gaps[len(together) - most - 1], most=most)
