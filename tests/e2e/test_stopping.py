"""A stop at any moment: exit status 0, nothing is left running, and within the promised time."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import Command
from tests.support.patience import patience
from tests.support.serve_process import COMMAND, fetch, free_port, run_server, wait_until

SIGNALS = [signal.SIGTERM, signal.SIGHUP]


def using(data: Path) -> list[str]:
    """The command lines of all processes that name the data directory: servers, initdb, serve."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if entry.name.isdigit() and str(data) in words:
                found.append(words[:200])
    return found


@contextmanager
def starting(data: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on this data directory, and kill it at the end."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ORCHESTRATOR_")}
    process = subprocess.Popen(
        [str(COMMAND), *words, "--data", str(data)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**environment, "STARTED_BY_TEST": secrets.token_hex(8)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def has_begun(data: Path) -> bool:
    return (data / "instance.lock").exists()


def creates_the_database(data: Path) -> bool:
    return any(data.glob("postgres.new-*/PG_VERSION"))


def starts_the_database(data: Path) -> bool:
    return (data / "postgres" / "postmaster.pid").exists()


def opens_the_services(data: Path) -> bool:
    return (data / "cache").exists()


@pytest.mark.parametrize("number", SIGNALS, ids=lambda each: each.name)
@pytest.mark.parametrize(
    "moment", [has_begun, creates_the_database, starts_the_database, opens_the_services]
)
def test_a_signal_during_the_start_ends_it_with_status_0_and_leaves_nothing_running(
    tmp_path: Path, moment: Callable[[Path], bool], number: signal.Signals
) -> None:
    if moment is opens_the_services and number is signal.SIGHUP:
        pytest.skip("it runs already, and SIGHUP does not end it")
    data = tmp_path / "data"
    ports = ("--port", str(free_port()), "--private-port", str(free_port()))
    workers = "2" if moment is opens_the_services else "1"
    with starting(data, "serve", *ports, "--workers", workers) as process:
        wait_until(lambda: moment(data), moment.__name__)
        process.send_signal(number)
        assert process.wait(timeout=25 * patience()) == 0
        wait_until(lambda: not using(data), "nothing is left running", 5)
        assert b"Traceback" not in process.stderr.read() if process.stderr else True


def test_a_command_that_is_ended_while_it_starts_the_database_leaves_nothing_running(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with starting(data, "customers", "list") as process:
        wait_until(lambda: starts_the_database(data), "the database starts")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=25 * patience()) in (0, 128 + signal.SIGTERM)
        wait_until(lambda: not using(data), "nothing is left running", 5)


@pytest.fixture
def silent_origin() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/picture.jpg"


@pytest.mark.parametrize("workers", [1, 2])
def test_draining_ends_in_time_although_a_client_waits_for_an_ingest(
    silent_origin: str, command: Command, workers: int
) -> None:
    drain_s = 2
    environment = {
        "ORCHESTRATOR_SERVER__DRAIN_S": str(drain_s),
        "ORCHESTRATOR_INGEST__ALLOW_PRIVATE_ADDRESSES": "true",
    }
    with run_server(workers=workers, env=environment) as server:
        key = command("keys", "create", 1, "--json", "--data", server.data).json["token"]
        body = json.dumps({"id": "1/1/slow", "origin": silent_origin}).encode()
        answered = threading.Event()

        def ingest() -> None:
            request = "PUT /customers/1/spaces/1/images/slow HTTP/1.1\r\nHost: x\r\n"
            request += f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            request += f"Content-Length: {len(body)}\r\n\r\n"
            host, port = server.private.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as client:
                client.sendall(request.encode() + body)
                client.recv(65536)
            answered.set()

        client = threading.Thread(target=ingest)
        client.start()
        slow = f"{server.private}/customers/1/spaces/1/images/slow"

        def is_ingesting() -> bool:
            assert not answered.is_set(), "the ingest waits for its origin"
            reply = fetch(slow, Authorization=f"Bearer {key}")
            return reply.status == 200 and reply.json.get("state") == "ingesting"

        wait_until(is_ingesting, "the ingest is under way")
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60 * patience()) == 0
        assert time.monotonic() - began < (drain_s + 3) * patience() + 1
        client.join()
