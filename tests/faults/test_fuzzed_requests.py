"""Random requests to both ports of a real server: each whole message is answered, none with a 5xx
but a deliberate 503, nothing is logged as an error, and neither memory nor descriptors grow.

`FUZZ_SEED` repeats a long run; the short one is always the same.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from urllib.parse import urlsplit

import pytest

from tests.e2e.conftest import run_command
from tests.e2e.test_bad_urls import corpus
from tests.support import pictures
from tests.support.memory_slope import MemorySamples
from tests.support.process_table import open_files
from tests.support.request_fuzzer import FuzzClient, Fuzzer, operations_of
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)

CLIENTS = 4
SAMPLES = 50
GROWTH_MB = 40.0
SPARE_DESCRIPTORS = 40
"""Connections to the database and open pictures, which come and go."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """One process with everything that has routes, and caches that are soon full."""
    folder = tmp_path_factory.mktemp("fuzzed")
    shop, incoming, active = (folder / name for name in ("shop", "incoming", "active"))
    for each in (folder / "pictures", shop, incoming, active):
        each.mkdir()
    pictures.jpeg(folder / "pictures" / "sample.jpg", 700, 500)
    pictures.jpeg(shop / "sample.jpg", 300, 200)
    env = {
        "ORCHESTRATOR_ICO__FOLDER": str(shop),
        "ORCHESTRATOR_ICO__OPEN": "true",
        "ORCHESTRATOR_UPLOADS__BACKEND": "local",
        "ORCHESTRATOR_UPLOADS__SECRETS": json.dumps(["a-secret-of-the-uploads"]),
        "ORCHESTRATOR_UPLOADS__INCOMING_FOLDER": str(incoming),
        "ORCHESTRATOR_UPLOADS__ACTIVE_FOLDER": str(active),
        "ORCHESTRATOR_CACHE__MEMORY": "4MB",
        "ORCHESTRATOR_CACHE__MEMORY_HEADS": "1MB",
        "ORCHESTRATOR_CACHE__DERIVATIVES_QUOTA": "20MB",
        "ORCHESTRATOR_CACHE__MAX_ENTRY": "5MB",
        "ORCHESTRATOR_DELIVERY__SNAPSHOT_ENTRIES": "200",
        "ORCHESTRATOR_IMAGING__PROCESSES": "1",
        # Free memory is returned, so that growth is a leak and no fragmentation.
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_TRIM_THRESHOLD_": "131072",
    }
    with run_server(folder / "pictures", data=folder / "data", env=env) as server:
        server.wait_converted()
        yield server
        assert_log_clean(server.log())


def fuzz(server: ServeProcess, requests: int, seed: str) -> str:
    """Send so many requests. Returns a line with what was answered."""
    words = ("keys", "create", "1", "--json", "--data", server.data)
    key = run_command(*words).json["token"]
    operations = operations_of(fetch(f"{server.private}/openapi.json").json)
    targets = [target for _, target in corpus()]
    port, private_port = (urlsplit(each).port or 0 for each in (server.public, server.private))
    statuses: Counter[int | None] = Counter()
    faults: list[str] = []
    memory = MemorySamples(server.resident_bytes)

    def run(client: int, part: int, number: int) -> None:
        fuzzer = Fuzzer(f"{seed} {client} {part}", key, targets, operations)
        sender = FuzzClient(port, private_port)
        for _ in range(number):
            request = fuzzer.next()
            try:
                status = sender.send(request)
            except (OSError, HTTPException) as error:
                faults.append(f"{error!r} {request}")
                continue
            statuses[status] += 1
            if status is not None and status >= 500 and status != 503:
                faults.append(f"{status} {request}")
        sender.close()

    try:
        before = _descriptors(server)
        with ThreadPoolExecutor(CLIENTS) as threads:
            for part in range(SAMPLES):
                number = -(-requests // (CLIENTS * SAMPLES))
                for done in [threads.submit(run, n, part, number) for n in range(CLIENTS)]:
                    done.result()
                memory.take()
                server.check_alive()
        assert not faults, "\n".join(faults[:20])
        assert_log_clean(server.log())
        assert fetch(f"{server.public}/iiif/3/1%2F1%2Fsample/info.json").status in (200, 404)
        wait_until(
            lambda: _descriptors(server) < before + SPARE_DESCRIPTORS, "descriptors are closed"
        )
    except BaseException as error:
        error.add_note(f"FUZZ_SEED={seed} {dict(statuses)} {memory}")
        raise
    assert memory.growth < GROWTH_MB, f"FUZZ_SEED={seed} {memory}"
    return f"FUZZ_SEED={seed}: {sum(statuses.values())} requests, {dict(statuses)}; {memory}"


def _descriptors(server: ServeProcess) -> int:
    return open_files(server.process.pid)


@pytest.mark.parametrize("prefix", ["/iiif/3/", "/iiif/2/", "/iiif-img/", "/thumbs/"])
@pytest.mark.parametrize("identifier", ["9999999999/1/x", "1/9999999999/x", "1/1/..", "1/1/%00"])
def test_an_identifier_that_no_asset_can_have_is_answered(
    server: ServeProcess, prefix: str, identifier: str
) -> None:
    """On a new connection: its first request is answered before the application sees it."""
    image = identifier.replace("/", "%2F") if prefix.startswith("/iiif/") else identifier
    rest = "info.json" if identifier.endswith("..") else "full/max/0/default.jpg"
    answer = fetch(f"{server.public}{prefix}{image}/{rest}")
    assert answer.status in (400, 404)
    assert answer.json["error"]


def test_a_client_that_leaves_within_a_body_is_no_fault_of_ours(server: ServeProcess) -> None:
    port = urlsplit(server.private).port
    key = run_command("keys", "create", "1", "--json", "--data", server.data).json["token"]
    before = server.metric("requests_total", status="400")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /asset-ingest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
            b"Expect: 100-continue\r\n" + f"Authorization: Bearer {key}\r\n\r\n".encode()
        )
        assert b" 100 " in connection.recv(100)  # the body is being read
        connection.sendall(b"{")
    wait_until(lambda: server.metric("requests_total", status="400") > before, "it is counted")
    assert_log_clean(server.log())


def test_fuzzed_requests_are_answered_without_a_fault_of_ours(server: ServeProcess) -> None:
    print(fuzz(server, 2_000, "1"))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_fuzzed_requests_are_answered_without_a_fault_of_ours(
    server: ServeProcess,
) -> None:
    seed = os.environ.get("FUZZ_SEED") or secrets.token_hex(4)
    print(fuzz(server, 100_000, seed))
