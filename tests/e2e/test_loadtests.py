"""The benchmarks and load scenarios run. Their figures are not checked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.bench import main
from tests.support.patience import patience
from tests.support.scenes import write_jpeg
from tests.support.serve_process import ServeProcess, assert_log_clean, run_server

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ROOT / "loadtests" / "scenarios"
NO_SCENARIO = ("__init__", "common", "mixed_with_ingest")
"""`mixed_with_ingest` needs a key and an origin."""
KINDS = (
    "tile",
    "thumbnail",
    "region",
    "page image",
    "whole image",
    "harvest",
    "pull",
    r"tile 1:\d+",
)

KINDS_OF_MIXED, TIERS = "thumbnail|tile|region", "memory|disk|thumb|resize|imageserver"


def test_a_bench_prints_both_sides_and_writes_them_as_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtests.harness.RESULTS", tmp_path)
    assert main(["P3", "--rounds", "2", "--seconds", "1"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"^P3 info\.json, hot .*nginx .* >= 0\.8x", table, re.MULTILINE)
    (result,) = tmp_path.glob("bench-*.json")
    row = json.loads(result.read_text())["rows"][0]
    assert row["ours"]["median"] > 0
    assert row["theirs"]["low"] <= row["theirs"]["median"] <= row["theirs"]["high"]


def test_the_bench_of_the_queue_runs_a_batch_to_its_end(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtests.harness.RESULTS", tmp_path)
    monkeypatch.setattr("loadtests.benches.job_queue.FILES", 4)
    assert main(["P13", "--rounds", "1"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"^P13 queue .*conversion alone .* >= 0\.8x", table, re.MULTILINE)


def test_every_scenario_runs_without_a_failed_request_and_a_blocked_loop(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "pictures" / "one.jpg", 1501, 1003)
    write_jpeg(tmp_path / "pictures" / "two.jpg", 1003, 1501, seed=2)
    files = scenarios()
    with run_server(tmp_path / "pictures", workers=2, data=tmp_path / "data") as server:
        server.wait_converted(expected=2)
        printed = run_locust(server, files, users=2 * len(files), seconds=round(10 * patience()))
        stalls = server.stalls()
        percentiles = make_load(server)
    for kind in KINDS:
        assert re.search(rf"{kind} (memory|disk|thumb|resize|imageserver)", printed), kind
    assert "revalidation" in printed
    assert not stalls
    assert re.search(rf"({KINDS_OF_MIXED}) ({TIERS}) +\d+ +\d+", percentiles), percentiles
    assert_log_clean(server.log())


@pytest.mark.soak
def test_no_scenario_blocks_a_loop_beside_the_ingest_of_a_large_folder(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "pictures" / "one.jpg", 6000, 4000)
    small = write_jpeg(tmp_path / "small.jpg", 300, 200).read_bytes()
    for number in range(5000):
        (tmp_path / "pictures" / f"{number:04}.jpg").write_bytes(small)
    with run_server(tmp_path / "pictures", workers=2, data=tmp_path / "data") as server:
        stalls = {}
        for file in scenarios():
            before = server.stalls()
            run_locust(server, [file], users=16, seconds=20)
            stalls[file.stem] = server.stalls() - before
    assert not any(stalls.values()), stalls


def make_load(server: ServeProcess) -> str:
    """Run the command of `make load` for a short time; returns the percentiles that it prints."""
    words = ["make", "--silent", "--dry-run", "load"]
    printed = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    command = printed.stdout[printed.stdout.rindex(".venv/bin/locust") :]
    env = {
        **os.environ,
        "ADDRESS": server.public,
        "TIME": f"{round(3 * patience())}s",
        "USERS": "4",
    }
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr.rpartition("Response time percentiles")[2]


def scenarios() -> list[Path]:
    return sorted(each for each in SCENARIOS.glob("*.py") if each.stem not in NO_SCENARIO)


def run_locust(server: ServeProcess, files: list[Path], *, users: int, seconds: int) -> str:
    """Run scenarios; returns what locust printed. Fails if a request failed."""
    words = [str(Path(sys.executable).with_name("locust")), "--headless", "--only-summary"]
    words += ["-f", ",".join(map(str, files)), "--host", server.public]
    words += ["-u", str(users), "-r", "50", "-t", f"{seconds}s"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr
