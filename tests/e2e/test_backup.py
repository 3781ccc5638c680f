"""An installation is restored from a backup that was made while it worked."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from orchestrator.catalog.dumps import SKIPPED_NUMBERS
from tests.support import pictures
from tests.support.http_server import respond, run_http_server
from tests.support.patience import patience
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    start_server,
    wait_until,
)

ENVIRONMENT = {
    "ORCHESTRATOR_INGEST__ALLOW_PRIVATE_ADDRESSES": "true",
    # As the how-to says: longer than the copy of the store takes.
    "ORCHESTRATOR_INGEST__REMOVE_AFTER_S": "3600",
    "ORCHESTRATOR_JOBS__HEARTBEAT_S": "1",
    "ORCHESTRATOR_JOBS__LEASE_S": "5",
}
PATHS = (
    "/iiif/3/1%2F1%2Fpage/info.json",
    "/iiif/3/1%2F1%2Fpage/full/400,/0/default.jpg",
    "/iiif/3/1%2F1%2Fpage/256,256,512,512/300,/0/default.jpg",
    "/iiif/3/1%2F1%2Fsecret/full/200,/0/default.jpg",
)


class Origin:
    """A web server of pictures. It keeps requests for `late.jpg` waiting until it is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened = threading.Event()
        self.asked_late = threading.Event()
        self.address = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if "late" in request.path:
            self.asked_late.set()
            self.opened.wait(120 * patience())
        respond(request, "image/jpeg", (self.folder / request.path[1:]).read_bytes())


@contextmanager
def an_origin(folder: Path) -> Iterator[Origin]:
    folder.mkdir()
    for number, name in enumerate(("page", "secret", "late")):
        pictures.jpeg(folder / f"{name}.jpg", 800, 600, seed=number)
    origin = Origin(folder)
    with run_http_server(origin.answer) as port:
        origin.address = f"http://127.0.0.1:{port}"
        try:
            yield origin
        finally:
            origin.opened.set()


def post_batch(server: ServeProcess, key: str, origin: Origin, *names: str) -> int:
    members = [{"id": name, "space": 1, "origin": f"{origin.address}/{name}.jpg"} for name in names]
    request = urllib.request.Request(
        f"{server.private}/customers/1/queue",
        json.dumps({"member": members}).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30 * patience()) as answer:
        return int(json.load(answer)["id"])


def batch(server: ServeProcess, key: str, number: int) -> dict[str, Any]:
    address = f"{server.private}/customers/1/queue/batches/{number}"
    answer: dict[str, Any] = fetch(address, Authorization=f"Bearer {key}").json
    return answer


def answers(server: ServeProcess, token: str) -> list[tuple[int, bytes, str]]:
    """Status, bytes and ETag of each path. Info documents name the port of this run."""
    found = []
    for path in PATHS:
        reply = fetch(server.public + path, Authorization=f"Bearer {token}")
        body = reply.body.replace(server.public.encode(), b"")
        etag = "" if path.endswith("info.json") else reply.headers["etag"]
        found.append((reply.status, body, etag))
    return found


def test_a_backup_made_during_work_is_restored_with_the_same_bytes_and_no_job_lost(
    tmp_path: Path, command: Any
) -> None:
    data, backup, restored = (tmp_path / name for name in ("data", "backup", "restored"))
    backup.mkdir()

    def run(*words: object) -> Any:
        done = command(*words, "--json", "--data", data)
        assert done.status == 0, done.err
        return done.json

    with an_origin(tmp_path / "origin") as origin:
        lost = start_server(None, workers=1, data=data, env=ENVIRONMENT)
        try:
            key = run("keys", "create", 1)["token"]
            first = post_batch(lost, key, origin, "page", "secret")
            wait_until(lambda: batch(lost, key, first)["finished"], "two pictures", timeout_s=60)
            run("images", "set", "1/1/secret", "--roles", "staff")
            token = run("token", "create", "--roles", "staff", "--expires", "8h")["token"]
            second = post_batch(lost, key, origin, "late")
            wait_until(origin.asked_late.is_set, "a job in progress")
            before = answers(lost, token)
            assert [status for status, _, _ in before] == [200] * len(PATHS)

            assert run("db", "dump", backup / "database.dump")["bytes"] > 0
            # What is changed now is in the copy of the store and not in the dump.
            shutil.copy(origin.folder / "secret.jpg", origin.folder / "page.jpg")
            third = post_batch(lost, key, origin, "page")
            wait_until(lambda: batch(lost, key, third)["finished"], "a change", timeout_s=60)
            assert answers(lost, token)[1] != before[1]
            for name in ("objects", "secrets"):
                shutil.copytree(data / name, backup / name)
        finally:
            lost.stop(graceful=False)

        shutil.copytree(backup, restored)
        done = command("db", "restore", backup / "database.dump", "--data", restored)
        assert (done.status, done.out) == (0, "restored\n"), done.err
        origin.opened.set()
        with run_server(data=restored, env=ENVIRONMENT) as server:
            assert answers(server, token) == before
            assert fetch(server.public + PATHS[3]).status == 401
            wait_until(lambda: batch(server, key, second)["finished"], "the job", timeout_s=60)
            assert (
                batch(server, key, second)["completed"],
                batch(server, key, second)["errors"],
            ) == (1, 0)
            late = fetch(server.public + "/iiif/3/1%2F1%2Flate/full/400,/0/default.jpg")
            assert late.status == 200
            assert post_batch(server, key, origin, "page") > third + SKIPPED_NUMBERS // 2
            assert_log_clean(server.log())
