"""How many bytes to evict, and which files."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from orchestrator.cache.disk.eviction import first_that_free
from orchestrator.scavenger.eviction_amount import Fill, bytes_to_evict

FREE = 10**9


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        pytest.param(Fill(800, 0, 1000, FREE, 0), 0, id="below low water"),
        pytest.param(Fill(950, 0, 1000, FREE, 0), 50, id="over low water"),
        pytest.param(Fill(850, 100, 1000, FREE, 0), 50, id="reservations count"),
        pytest.param(Fill(5000, 0, 0, FREE, 0), 0, id="no quota"),
        pytest.param(Fill(5000, 0, 0, 100, 400), 300, id="no quota, under the floor"),
        pytest.param(Fill(950, 0, 1000, 0, 300), 300, id="the floor asks for more"),
        pytest.param(Fill(100, 0, 1000, 0, 300), 100, id="never more than there is"),
    ],
)
def test_the_bytes_to_evict(fill: Fill, expected: int) -> None:
    assert bytes_to_evict(fill, 0.9) == expected


@dataclass(frozen=True)
class File:
    bytes: int


def test_the_first_candidates_are_chosen_until_they_free_enough() -> None:
    files = [File(10), File(20), File(30), File(40)]
    assert first_that_free(files, 25) == files[:2]
    assert first_that_free(files, 0) == []
    assert first_that_free(files, 1000) == files
