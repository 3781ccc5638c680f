"""The processes of one installation: which run, what happens when one dies, and how all end."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import pictures
from tests.support.patience import patience
from tests.support.process_table import parent_of
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)

TILE = "/iiif/3/1%2F1%2Fbig/0,0,1024,1024/max/0/default.png"


ENV = {"ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original"}


@pytest.fixture(scope="module")
def folder(module_folder: Path) -> Path:
    (module_folder / "pictures").mkdir()
    pictures.jpeg(module_folder / "pictures" / "big.jpg", 1500, 1100)
    return module_folder / "pictures"


@pytest.fixture(scope="module")
def access_log(module_folder: Path) -> Path:
    return module_folder / "access.log"


@pytest.fixture(scope="module")
def server(folder: Path, access_log: Path) -> Iterator[ServeProcess]:
    """A server with several processes that a test leaves as it was."""
    env = {**ENV, "ORCHESTRATOR_LOG__ACCESS": str(access_log)}
    with run_server(folder, workers=2, env=env) as server:
        server.wait_converted()
        yield server
        assert_log_clean(server.log())


@pytest.fixture(scope="module")
def single(folder: Path) -> Iterator[ServeProcess]:
    """A server with one process."""
    with run_server(folder, workers=1, env=ENV) as server:
        yield server
        assert_log_clean(server.log())


def children(server: ServeProcess) -> dict[int, str]:
    """The children of the supervisor that are Python processes, without their decode workers."""
    pids = {}
    for pid, words in server.processes().items():
        if "spawn_main" in words and parent_of(pid) == server.process.pid:
            pids[pid] = words
    return pids


def answers(server: ServeProcess, path: str = TILE, *, private: bool = False) -> bool:
    base = server.private if private else server.public
    try:
        return fetch(base + path, timeout_s=10).status == 200
    except OSError:
        return False


def test_one_worker_is_one_process(single: ServeProcess) -> None:
    assert answers(single)
    assert fetch(f"{single.private}/metrics").status == 200
    assert not [words for words in children(single).values() if "resource_tracker" in words]


def test_two_instances_run_side_by_side(single: ServeProcess, server: ServeProcess) -> None:
    assert answers(single)
    assert answers(server)


def test_a_killed_process_is_replaced_and_images_are_served_meanwhile(
    server: ServeProcess,
) -> None:
    before = set(children(server))
    assert len(before) == 3
    for pid in before:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda gone=pid: gone not in children(server), "the killed process reaped")
        wait_until(lambda: len(children(server)) == 3, "three processes again")
        wait_until(lambda: answers(server), "an answer")
    assert not before & set(children(server))
    wait_until(lambda: answers(server, "/health/ready", private=True), "housekeeping")


def housekeeping_of(server: ServeProcess) -> int:
    """The process id of housekeeping, as the supervisor logged it last."""
    started = [line for line in server.log().splitlines() if '"event": "process started"' in line]
    return int(
        [json.loads(line)["child"] for line in started if '"role": "housekeeping"' in line][-1]
    )


def test_a_restart_of_housekeeping_makes_no_serve_process_unready_even_without_the_folder(
    server: ServeProcess, folder: Path
) -> None:
    elsewhere = folder.with_name("elsewhere")
    before = housekeeping_of(server)
    statuses = set()

    def is_back() -> bool:
        """True when the new housekeeping process shows the state of the folder."""
        statuses.add(fetch(f"{server.public}/health/ready").status)
        with suppress(OSError):
            checks = fetch(f"{server.private}/health/ready").json["checks"]
            return housekeeping_of(server) != before and "not a readable" in checks["folder"]
        return False

    folder.rename(elsewhere)
    try:
        os.kill(before, signal.SIGKILL)
        wait_until(is_back, "the folder is reported", 60)
        assert statuses == {200}
        assert fetch(f"{server.private}/health/ready").status == 200
        assert server.metric("folder_unreadable") == 1
        assert '"event": "folder not readable"' in server.log()
    finally:
        elsewhere.rename(folder)
    wait_until(lambda: server.metric("folder_unreadable") == 0, "the folder is read again")
    assert '"event": "folder readable again"' in server.log()
    assert fetch(f"{server.public}/health/ready").status == 200


def test_after_the_supervisor_is_killed_no_process_is_left_and_a_new_one_starts(
    folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with run_server(folder, workers=2, data=data, env=ENV) as server:
        server.process.kill()
        server.process.wait()
        wait_until(
            lambda: not [w for w in server.processes().values() if "postgres" not in w],
            "all processes gone with the supervisor",
        )
        server.stop(graceful=False)
    with run_server(folder, workers=1, data=data, env=ENV) as server:
        assert answers(server)
        assert_log_clean(server.log())


def test_a_response_in_progress_is_completed_before_the_process_ends(folder: Path) -> None:
    with run_server(folder, workers=2, env=ENV) as server:
        host, port = server.public.removeprefix("http://").split(":")
        size = len(fetch(server.public + TILE).body)
        with socket.create_connection((host, int(port))) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(f"GET {TILE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            received = client.recv(1024)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            while piece := client.recv(65536):
                received += piece
        assert len(received.partition(b"\r\n\r\n")[2]) == size
        server.stop()
        assert_log_clean(server.log())


def test_sighup_moves_the_access_log_to_a_new_file(server: ServeProcess, access_log: Path) -> None:
    def has_a_line() -> bool:
        return access_log.exists() and access_log.stat().st_size > 0

    assert answers(server)
    wait_until(has_a_line, "a first line")
    access_log.rename(access_log.with_name("access.log.1"))
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: answers(server) and has_a_line(), "a new file")


def test_ctrl_c_ends_all_processes_with_status_0(folder: Path) -> None:
    with run_server(folder, workers=2, env=ENV) as server:
        pids = [server.process.pid, *children(server)]
        for pid in pids:  # as a terminal does: to the whole group
            os.kill(pid, signal.SIGINT)
        server.process.wait(timeout=30 * patience())
        assert server.process.returncode == 0
        assert_log_clean(server.log())
