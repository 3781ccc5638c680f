"""The recommended configurations of external image servers give a reason for each value."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / "config"
FILES = ("cantaloupe.properties", "cantaloupe-special.properties", "iipsrv.env")


@pytest.mark.parametrize("name", FILES)
def test_each_value_stands_below_its_reason(name: str) -> None:
    for block in (CONFIG / name).read_text().strip().split("\n\n"):
        comment, *_ = block.splitlines()
        assert comment.startswith("# "), f"{block} has no reason"


@pytest.mark.parametrize("name", FILES)
def test_each_line_is_a_comment_or_one_value_and_no_key_occurs_twice(name: str) -> None:
    lines = (CONFIG / name).read_text().splitlines()
    keys = [line.partition("=")[0].strip() for line in lines if line and line[0] != "#"]
    assert all("=" in line for line in lines if line and line[0] != "#")
    assert len(keys) == len(set(keys))
