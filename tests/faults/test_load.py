"""Every load scenario, and ingests of the same picture again and again, for ten minutes: no request
fails, and nothing is left over: memory, descriptors, temporary files.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import run_command
from tests.e2e.test_loadtests import NO_SCENARIO, ROOT, SCENARIOS
from tests.support.memory_slope import MemorySamples
from tests.support.process_table import open_files
from tests.support.scenes import write_jpeg
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    processes_marked,
    run_server,
    wait_until,
)

SECONDS = int(os.environ.get("LOAD_SECONDS", "600"))
GROWTH_MB = 60.0
SPARE_DESCRIPTORS = 60
"""Connections to the database and open pictures, which come and go."""


@pytest.mark.soak
@pytest.mark.timeout(2700)
def test_ten_minutes_of_every_scenario_beside_ingests_fail_nothing_and_leave_nothing(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "pictures"
    write_jpeg(folder / "one.jpg", 1501, 1003)
    write_jpeg(folder / "two.jpg", 1003, 1501, seed=2)
    env = {
        "ORCHESTRATOR_INGEST__FILE_ROOTS": f'["{folder}"]',
        # Free memory is returned, so that growth is a leak and no fragmentation.
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_TRIM_THRESHOLD_": "131072",
        "ORCHESTRATOR_CACHE__MEMORY": "16MB",
        "ORCHESTRATOR_CACHE__MEMORY_HEADS": "2MB",
    }
    with run_server(folder, workers=2, data=tmp_path / "data", env=env) as server:
        server.wait_converted(expected=2)
        words = ("keys", "create", "1", "--json", "--data", server.data)
        load = _start_locust(server, run_command(*words).json["token"], folder / "one.jpg")
        memory = MemorySamples(server)
        before = _descriptors(server)
        while load.poll() is None:
            memory.take()
            server.check_alive()
            time.sleep(SECONDS / 200)
        output = load.communicate()[0]
        assert load.returncode == 0, f"{output[-6000:]}\n{memory}"
        total = re.search(r"Aggregated +(\d+) +(\d+)\(", output)
        assert total and int(total[1]) > SECONDS and int(total[2]) == 0, output[-3000:]
        assert "ingest" in output
        print(f"{total[1]} requests, {total[2]} failed; {memory}")
        wait_until(
            lambda: _descriptors(server) < before + SPARE_DESCRIPTORS, "files are closed", 120
        )
        wait_until(lambda: not _temporary_files(server.data), "no temporary file is left", 120)
        assert_log_clean(server.log())
        assert memory.growth < GROWTH_MB, str(memory)


def _start_locust(server: ServeProcess, key: str, origin: Path) -> subprocess.Popen[str]:
    names = {each.stem for each in SCENARIOS.glob("*.py")} - {*NO_SCENARIO, "mixed"}
    files = [SCENARIOS / f"{name}.py" for name in sorted({*names, "mixed_with_ingest"})]
    words = [str(Path(sys.executable).with_name("locust")), "--headless", "--only-summary"]
    words += ["-f", ",".join(map(str, files)), "--host", server.public]
    words += ["-u", str(2 * len(files)), "-r", "10", "-t", f"{SECONDS}s"]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "INGEST_ADDRESS": server.private,
        "INGEST_KEY": key,
        "INGEST_ORIGIN": str(origin),
    }
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=env
    )


def _descriptors(server: ServeProcess) -> int:
    """Open descriptors of all processes of the server, without the database."""
    return sum(map(open_files, processes_marked(server.mark)))


def _temporary_files(data: Path) -> list[Path]:
    scratch = [path for path in data.glob("scratch/**/*") if path.is_file()]
    left = [path for path in scratch if path.suffix != ".lock"]
    return [*left, *data.glob("cache/*/.temp/*")]
