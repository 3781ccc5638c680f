"""Every load scenario beside ingests, repeated ingests and deletes for ten minutes: no request
fails, no answer for another image changes by a byte, and nothing is left over: memory, descriptors,
tasks, temporary files.
"""

from __future__ import annotations

import hashlib
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
    fetch,
    processes_marked,
    run_server,
    wait_until,
)

SECONDS = int(os.environ.get("LOAD_SECONDS", "600"))
GROWTH_MB = 60.0
SPARE_DESCRIPTORS = 60
"""Connections to the database and open pictures, which come and go."""
SPARE_TASKS = 30
REGIONS = (
    "0,0,256,256/256,",
    "512,512,489,491/489,",
    "0,0,999,999/256,",
    "full/200,",
    "full/777,",
)
URLS = [
    f"iiif/{version}/1%2F1%2F{name}/{region}/0/{output}"
    for version in (2, 3)
    for name in ("one", "two")
    for region in REGIONS
    for output in ("default.jpg", "gray.png")
] + ["iiif/3/1%2F1%2Fone/info.json", "thumbs/1/1/two/full/100,/0/default.jpg"]
"""What is asked again and again beside the load."""


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
        truth = {url: _answer(server, url) for url in URLS}
        assert {status for status, _ in truth.values()} == {200}
        before, idle = _descriptors(server), server.metric("event_loop_tasks")
        load = _start_locust(server, run_command(*words).json["token"], folder / "one.jpg")
        memory = MemorySamples(server.resident_bytes)
        compared = 0
        while load.poll() is None:
            memory.take()
            server.check_alive()
            for url, answer in truth.items():
                assert _answer(server, url) == answer, url
                compared += 1
            time.sleep(SECONDS / 200)
        output = load.communicate()[0]
        assert load.returncode == 0, f"{output[-6000:]}\n{memory}"
        total = re.search(r"Aggregated +(\d+) +(\d+)\(", output)
        assert total and int(total[1]) > SECONDS and int(total[2]) == 0, output[-3000:]
        assert {"ingest", "ingest again", "delete"} <= _names(output)
        print(f"{total[1]} requests, {total[2]} failed, {compared} compared; {memory}")
        wait_until(
            lambda: _descriptors(server) < before + SPARE_DESCRIPTORS, "files are closed", 120
        )
        wait_until(
            lambda: server.metric("event_loop_tasks") < idle + SPARE_TASKS, "tasks have ended", 120
        )
        wait_until(lambda: not server.temporary_files(), "no temporary file is left", 120)
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


def _answer(server: ServeProcess, url: str) -> tuple[int, str]:
    answer = fetch(f"{server.public}/{url}")
    return answer.status, hashlib.sha256(answer.body).hexdigest()


def _names(output: str) -> set[str]:
    """The names of the requests in the summary of locust."""
    return {match[1] for match in re.finditer(r"^(?:GET|PUT|DELETE) +(.*?) {2,}\d", output, re.M)}


def _descriptors(server: ServeProcess) -> int:
    """Open descriptors of all processes of the server, without the database."""
    return sum(map(open_files, processes_marked(server.mark)))
