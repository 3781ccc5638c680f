"""Reading whole files: what is returned, and the memory it takes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from orchestrator.imaging.formats.bounded_read import read_at_most


@pytest.mark.parametrize(("limit", "expected"), [(2, b"ab"), (5, b"abcde"), (2**31, b"abcde")])
def test_at_most_the_limit_is_read(tmp_path: Path, limit: int, expected: bytes) -> None:
    (tmp_path / "a").write_bytes(b"abcde")
    with (tmp_path / "a").open("rb") as file:
        assert read_at_most(file, limit) == expected


def test_a_small_file_takes_little_memory_whatever_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1000))
    tracemalloc.start()
    try:
        with (tmp_path / "a").open("rb") as file:
            assert len(read_at_most(file, 512 * 1024**2)) == 1000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
