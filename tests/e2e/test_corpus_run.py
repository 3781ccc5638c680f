"""`make corpus`: files with colliding names, without an extension, damaged and of other kinds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.corpus.outcomes import (
    FAILED,
    REFUSED,
    RIGHT,
    UNASKED,
    UNCOMPARED,
    WRONG,
    Outcome,
    Run,
    Workers,
)
from tests.support import pictures

ROOT = Path(__file__).resolve().parents[2]


def test_a_run_judges_each_file_and_writes_its_outcomes(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    pictures.jpeg(folder / "a" / "same.jpg", 400, 300, 1)
    pictures.jpeg(folder / "b" / "same.jpg", 300, 200, 2)
    pictures.jp2_tiled(folder / "without extension", 500, 400, 3)
    pictures.truncated(folder / "cut.tif", pictures.jpeg(tmp_path / "t", 400, 300), 0.5)
    (folder / "text.png").write_text("no picture")
    report = tmp_path / "report.json"
    words = [sys.executable, "-m", "tests.corpus.run", str(folder), "--policy", "use-original"]
    result = subprocess.run(
        [*words, "--json", str(report)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(report.read_text())
    verdicts = {each["path"]: (each["verdict"], each["code"]) for each in found["files"]}
    assert verdicts == {
        "a/same.jpg": (RIGHT, ""),
        "b/same.jpg": (RIGHT, ""),
        "without extension": (RIGHT, ""),
        "cut.tif": (REFUSED, "damaged"),
        "text.png": (REFUSED, "not_an_image"),
    }
    assert found["worker_deaths"] == 0
    assert found["peak_worker_bytes"] > 0
    total = found["table"][-1]
    assert (total["files"], total[RIGHT], total[REFUSED]) == (5, 3, 2)
    memory = {row["format"]: row["peak_worker_bytes"] for row in found["table"]}
    assert list(memory) == ["jpeg", "jpeg2000", "other", "all"]
    assert min(memory["jpeg"], memory["jpeg2000"]) > 0
    assert memory["all"] == max(memory.values())


def test_a_run_is_good_only_without_wrong_pictures_server_errors_deaths_and_left_files() -> None:
    def run(*verdicts: str, deaths: int = 0) -> Run:
        outcomes = tuple(Outcome("a.jpg", "jpeg", verdict) for verdict in verdicts)
        return Run("fastest", outcomes, {"jpeg": Workers(deaths, 0)}, 1.0, {})

    assert run(RIGHT, REFUSED, UNCOMPARED).is_good
    for verdict in (WRONG, FAILED, UNASKED):
        assert not run(RIGHT, verdict).is_good
    assert not run(RIGHT, deaths=1).is_good
