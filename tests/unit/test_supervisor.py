"""The supervisor, run as a process of its own with fake processes as children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.errors import Conflict
from orchestrator.processes import supervisor
from orchestrator.settings import load
from tests.support.patience import patience
from tests.support.process_table import is_alive
from tests.support.serve_process import wait_until

PROGRAM = """
import sys
from pathlib import Path
from orchestrator.processes import supervisor
from orchestrator.settings import load
data, workers, entry, drain = sys.argv[1:]
settings = load(None, {}, {
    "server.data_dir": data, "server.workers": int(workers), "server.drain_s": float(drain)})
policy = supervisor.RestartPolicy(
    min_life_s=20, max_failed_starts=3, backoff_s=0.05, kill_after_s=0.2)
with supervisor.lock_data_dir(settings.data_dir):
    entry = "tests.support.fake_processes:" + entry
    sys.exit(supervisor.Supervisor(settings, entry, policy).run())
"""


class Supervised:
    """A supervisor under test, and the folder in which its children create files."""

    def __init__(self, data: Path, entry: str, workers: int, drain_s: float) -> None:
        self.data = data
        words = [sys.executable, "-c", PROGRAM, str(data), str(workers), entry, str(drain_s)]
        self.process = subprocess.Popen(words, cwd=Path(__file__).parents[2])

    def notes(self, ending: str = ".ready") -> dict[str, int]:
        """The newest process id of each role and index (`serve-0`) with such a file."""
        pids: dict[str, int] = {}
        for path in self.data.glob(f"*{ending}"):
            role, index, pid = path.stem.split("-")
            pids[f"{role}-{index}"] = max(int(pid), pids.get(f"{role}-{index}", 0))
        return pids

    def all_pids(self) -> list[int]:
        """Process ids of all children that ever ran."""
        return [int(path.name.split("-")[2]) for path in self.data.glob("*-*-*") if not path.suffix]


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    started: list[Supervised] = []

    def start(entry: str, workers: int = 2, drain_s: float = 60) -> Supervised:
        started.append(Supervised(tmp_path / "data", entry, workers, drain_s))
        return started[-1]

    (tmp_path / "data").mkdir()
    yield start
    for each in started:
        with suppress(ProcessLookupError):
            each.process.kill()
        each.process.wait()


def test_sigterm_lets_every_process_finish_and_the_exit_status_is_zero(
    supervised: Callable[..., Supervised],
) -> None:
    it = supervised("ends_on_sigterm")
    wait_until(lambda: len(it.notes()) == 3, "three processes ready")
    assert set(it.notes()) == {"housekeeping-0", "serve-0", "serve-1"}
    it.process.send_signal(signal.SIGTERM)
    assert it.process.wait(timeout=10 * patience()) == 0
    assert len(it.notes(".drained")) == 3
    assert not any(is_alive(pid) for pid in it.all_pids())


def test_children_inherit_a_metrics_folder_that_ends_with_the_supervisor(
    supervised: Callable[..., Supervised],
) -> None:
    it = supervised("ends_on_sigterm", workers=2)
    wait_until(lambda: len(it.notes()) == 3, "three processes ready")
    (folder,) = {path.read_text() for path in it.data.glob("serve-?-*") if not path.suffix}
    assert Path(folder).is_dir()
    it.process.send_signal(signal.SIGTERM)
    assert it.process.wait(timeout=10 * patience()) == 0
    assert not Path(folder).exists()


def test_a_process_killed_with_9_is_replaced(supervised: Callable[..., Supervised]) -> None:
    it = supervised("ends_on_sigterm")
    wait_until(lambda: len(it.notes()) == 3, "three processes ready")
    before = it.notes()["serve-1"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: len(list(it.data.glob("serve-1-*.ready"))) == 2, "a new serve-1")
    assert it.process.poll() is None
    it.process.send_signal(signal.SIGTERM)
    assert it.process.wait(timeout=10 * patience()) == 0


def test_a_process_that_ignores_sigterm_is_killed_after_the_drain_time(
    supervised: Callable[..., Supervised],
) -> None:
    it = supervised("ignores_sigterm", drain_s=0.3)
    wait_until(lambda: len(it.notes()) == 3, "three processes ready")
    began = time.monotonic()
    it.process.send_signal(signal.SIGTERM)
    assert it.process.wait(timeout=10 * patience()) == 0
    assert 0.4 < time.monotonic() - began < 5 * patience()
    assert not any(is_alive(pid) for pid in it.all_pids())


def test_a_second_signal_kills_the_processes_at_once(supervised: Callable[..., Supervised]) -> None:
    it = supervised("ignores_sigterm", drain_s=60)
    wait_until(lambda: len(it.notes()) == 3, "three processes ready")
    it.process.send_signal(signal.SIGINT)
    wait_until(lambda: len(it.notes(".asked")) == 3, "all are asked to end")
    it.process.send_signal(signal.SIGINT)
    assert it.process.wait(timeout=10 * patience()) == 0
    assert not any(is_alive(pid) for pid in it.all_pids())


def test_the_supervisor_exits_with_status_1_when_a_process_fails_to_start_several_times_in_a_row(
    supervised: Callable[..., Supervised],
) -> None:
    it = supervised("exits_with_status_3")
    assert it.process.wait(timeout=20 * patience()) == 1
    assert len(list(it.data.glob("housekeeping-0-*"))) <= 3


def test_the_children_die_with_a_supervisor_that_is_killed(
    supervised: Callable[..., Supervised],
) -> None:
    it = supervised("ignores_sigterm")
    wait_until(lambda: len(it.notes()) == 3, "three processes ready")
    it.process.kill()
    it.process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in it.all_pids()), "all children gone")


def test_sighup_is_sent_to_all_children(supervised: Callable[..., Supervised]) -> None:
    it = supervised("ends_on_sigterm")
    wait_until(lambda: len(it.notes()) == 3, "three processes ready")
    it.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(it.notes(".reopened")) == 3, "all three received SIGHUP")


def test_a_data_directory_in_use_is_refused_with_the_process_id(tmp_path: Path) -> None:
    with (
        supervisor.lock_data_dir(tmp_path),
        pytest.raises(Conflict, match=f"in use by process {os.getpid()}"),
        supervisor.lock_data_dir(tmp_path),
    ):
        pass


def test_a_data_directory_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with supervisor.lock_data_dir(tmp_path):
            pass


def test_one_worker_runs_everything_in_this_process(tmp_path: Path) -> None:
    given = {"server.data_dir": tmp_path, "server.workers": 1, "server.port": 0}
    given |= {"server.private_port": 0, "database.dsn": "postgresql://x/y"}
    settings = load(None, {}, given)
    assert supervisor.run(settings, "tests.support.fake_processes:returns_at_once") == 0
    assert (tmp_path / f"all-0-{os.getpid()}").exists()


def test_a_port_in_use_is_refused_with_the_option_that_changes_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        given = {"server.data_dir": tmp_path, "server.host": "127.0.0.1", "server.port": port}
        with pytest.raises(Conflict, match=f"port {port} .* --port"):
            supervisor.check_ports(load(None, {}, given))
