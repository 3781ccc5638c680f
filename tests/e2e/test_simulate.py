"""`orchestrator cache simulate` as an operator runs it: no server, no database, one answer."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from orchestrator.web.access_log import AccessRecord, format_line
from tests.e2e.conftest import Command


@pytest.fixture(scope="module")
def log(module_folder: Path) -> Path:
    """Three requests each for ten images, in turn; the last line is truncated."""
    path = module_folder / "access.log"
    lines = [
        format_line(
            AccessRecord(
                asset=f"1/1/{number % 10}",
                version=1,
                canonical="full/100,/0/default.jpg",
                tier="imageserver",
                status=200,
                bytes=4000,
                method="GET",
            ),
            "id",
            1_700_000_000 + number,
        )
        for number in range(30)
    ]
    path.write_bytes(b"".join([*lines, b'{"time": "20']))
    return path


def test_the_hit_ratios_of_a_log_are_printed_as_a_table(command: Command, log: Path) -> None:
    words = ["--quota", "20kB", "--quota", "1MB", "--policy", "lru", "--policy", "belady"]
    done = command("cache", "simulate", log, *words)
    assert done.status == 0, done.err
    assert "1 lines not counted: not a line of an access log" in done.err
    rows = [line.split() for line in done.out.splitlines()]
    assert ["20.0", "kB", "0.0%", "0.0%", "26.7%", "26.7%"] in rows
    assert ["1.0", "MB", "66.7%", "66.7%", "66.7%", "66.7%"] in rows


def test_compressed_logs_are_read_and_json_has_every_figure(
    command: Command, log: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "access.log.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    done = command("cache", "simulate", log, packed, "--quota", "1MB", "--json")
    assert done.status == 0, done.err
    assert done.json["requests"] == 60
    assert done.json["skipped"] == {"broken": 2}
    assert {each["policy"]: each["hit_ratio"] for each in done.json["outcomes"]} == {
        policy: pytest.approx(50 / 60) for policy in ("lru", "s3-fifo", "belady")
    }


def test_a_generated_trace_needs_no_log(command: Command) -> None:
    words = ["--trace", "long-tail", "--requests", 5000, "--objects", 1000, "--sample", 0.5]
    done = command("cache", "simulate", *words)
    assert done.status == 0, done.err
    assert "5,000 requests" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Name an access log"),
        (["/nowhere/access.log"], "cannot be read"),
        (["--trace", "long-tail", "--policy", "best"], "There is no policy best"),
        (["--trace", "long-tail", "--quota", "much"], "much is not a number of bytes"),
        (["--trace", "long-tail", "--quota", "0"], "more than 0 bytes"),
        (["--trace", "long-tail", "--sample", "2"], "--sample must be more than 0"),
    ],
    ids=str,
)
def test_a_wrong_option_is_reported_in_one_line(
    command: Command, words: list[str], message: str
) -> None:
    done = command("cache", "simulate", *words)
    assert done.status == 1
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_a_truncated_compressed_log_is_reported(
    command: Command, log: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "torn.gz"
    packed.write_bytes(gzip.compress(log.read_bytes())[:-20])
    done = command("cache", "simulate", packed)
    assert done.status == 1
    assert "cannot be read to its end" in done.err
