"""The disk of the data directory is full, blocks and inodes: every public request is answered, no
process dies, and a process that is restarted starts.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import pictures
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)
from tests.support.small_disks import mounted

NO_FLOOR = {"ORCHESTRATOR_CACHE__FREE_SPACE_FLOOR": "0"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A separate file system of 160 MiB for the data directory."""
    with mounted(tmp_path / "data", "size=160m,nr_inodes=4000") as at:
        yield at


def fill(disk: Path) -> None:
    """Leave neither a block nor an inode on the disk."""
    with (disk / "others").open("ab", buffering=0) as file:
        for size in (1024**2, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC
    for number in range(4000):
        try:
            (disk / f"other-{number}").touch()
        except OSError:
            return


def serving(server: ServeProcess) -> set[int]:
    """The spawned processes of the supervisor."""
    return {pid for pid, words in server.processes().items() if "spawn_main" in words}


def test_on_a_full_disk_every_request_is_answered_and_a_restarted_process_starts(
    disk: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures.jpeg(folder / "large.jpg", 3000, 2000)
    with run_server(folder, workers=2, data=disk, env=NO_FLOOR) as server:
        server.wait_converted(60)
        base = f"{server.public}/iiif/3/1%2F1%2Flarge"
        fetch(f"{base}/info.json")
        before = serving(server)
        fill(disk)
        numbers = iter(range(100_000))

        def status() -> int:
            """The status of a tile that was never requested before."""
            number = next(numbers)
            x, y = number % 2700, number // 2700
            return fetch(f"{base}/{x},{y},256,256/128,128/0/default.jpg").status

        # Each has other labels of the metrics, so that their files are written to.
        for path in ("/none", "/iiif/3/1%2F1%2Fnone/info.json", "/iiif/3/x/y", "/health/live"):
            assert fetch(server.public + path).status in (200, 404, 400)
        assert {status() for _ in range(60)} == {200}
        assert before <= serving(server), server.log_tail()
        assert server.metric("requests_total", status="200") >= 60
        served_by = [line for line in server.log().splitlines() if '"role": "serve"' in line]
        victim = next(pid for pid in before if f'"child": {pid}' in "".join(served_by))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: server.log().count('"role": "serve"') > len(served_by) + 1, "a restart")
        wait_until(lambda: server.log().count('"event": "listening"') >= 4, "it listens", 60)
        assert {status() for _ in range(20)} == {200}
        assert server.metric("requests_total", status="200") >= 80
        assert "-7" not in {  # SIGBUS
            line.partition('"status": ')[2].partition(",")[0] for line in server.log().splitlines()
        }
        for path in disk.glob("other*"):
            path.unlink()
        assert_log_clean(server.log())
