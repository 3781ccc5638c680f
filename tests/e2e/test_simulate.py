"""`orchestrator cache simulate` as an operator runs it: no server, no database, one answer."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from orchestrator.web.access_log import AccessRecord, format_line
from tests.e2e.conftest import Command


@pytest.fixture(scope="module")
def log(module_folder: Path) -> Path:
    """Ten pictures' tiles, each asked for thrice in turn; one line is torn."""
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


def test_a_log_is_told_as_a_table_and_a_plot(command: Command, log: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    words = ["--quota", "20kB", "--quota", "1MB", "--policy", "lru", "--policy", "belady"]
    done = command("cache", "simulate", log, *words, "--plot", plot)
    assert done.status == 0, done.err
    assert "1 lines not counted: no lines of an access log" in done.err
    rows = [line.split() for line in done.out.splitlines()]
    assert ["20", "kB", "0.0%", "0.0%", "26.7%", "26.7%"] in rows
    assert ["1", "MB", "66.7%", "66.7%", "66.7%", "66.7%"] in rows
    assert "o lru   x belady" in done.out
    assert plot.read_text().startswith("<svg")


def test_json_has_all_of_it_and_compressed_logs_and_the_standard_input_are_read(
    command: Command, log: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "access.log.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    done = command("cache", "simulate", log, packed, "--quota", "1MB", "--json")
    assert done.status == 0, done.err
    assert done.json["requests"] == 60
    assert done.json["skipped"] == {"broken": 2}
    assert {each["policy"]: each["hit_ratio"] for each in done.json["outcomes"]} == {
        policy: pytest.approx(50 / 60) for policy in ("lru", "s3-fifo", "sieve", "w-tinylfu")
    }


def test_a_generated_trace_needs_no_log(command: Command) -> None:
    words = ["--trace", "long-tail", "--requests", 5000, "--objects", 1000, "--sample", 0.5]
    done = command("cache", "simulate", *words)
    assert done.status == 0, done.err
    assert "5,000 requests" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Name an access log"),
        (["/nowhere/access.log"], "cannot be read"),
        (["--trace", "long-tail", "--policy", "best"], "There is no policy best"),
        (["--trace", "long-tail", "--quota", "much"], "much is no amount of bytes"),
        (["--trace", "long-tail", "--quota", "0"], "more than 0 bytes"),
        (["--trace", "long-tail", "--sample", "2"], "--sample is a part of 1"),
        (["--trace", "long-tail", "--plot", "x.png"], "ends in .svg"),
    ],
    ids=str,
)
def test_a_mistake_is_one_clear_line(command: Command, words: list[str], said: str) -> None:
    done = command("cache", "simulate", *words)
    assert done.status == 1
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_a_torn_compressed_log_is_told(command: Command, log: Path, tmp_path: Path) -> None:
    packed = tmp_path / "torn.gz"
    packed.write_bytes(gzip.compress(log.read_bytes())[:-20])
    done = command("cache", "simulate", packed)
    assert done.status == 1
    assert "cannot be read to its end" in done.err
