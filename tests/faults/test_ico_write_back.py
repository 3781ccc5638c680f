"""Results of /ico are stored beside their originals also if the store or the database was away, and
if every process was killed in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import pictures
from tests.support.pausing import paused, postgres_pids
from tests.support.serve_process import ServeProcess, fetch, run_server, start_server, wait_until
from tests.support.weed import BUCKET, CREDENTIALS, s3_client, s3_objects, weed

PRESETS = {f"w{width}": f"width={width}" for width in (40, 50, 60)}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("bucket")
    original = pictures.jpeg(folder / "a.jpg", 300, 200)
    with weed(folder / "weed") as address:
        client = s3_client(address)
        for key in ("away/a.jpg", "killed/a.jpg", "unrecorded/a.jpg"):
            client.put_object(Bucket=BUCKET, Key=key, Body=original.read_bytes())
        client.close()
        yield address


def environment(endpoint: str) -> dict[str, str]:
    access, secret = CREDENTIALS
    return {
        "ORCHESTRATOR_ICO__PRESETS": json.dumps(PRESETS),
        "ORCHESTRATOR_ICO__BUCKET": BUCKET,
        "ORCHESTRATOR_ICO__ENDPOINT": endpoint,
        "ORCHESTRATOR_ICO__ACCESS_KEY": access,
        "ORCHESTRATOR_ICO__SECRET_KEY": secret,
        "ORCHESTRATOR_ICO__RECHECK_S": "600",
        "ORCHESTRATOR_STORAGE__READ_TIMEOUT_S": "1",
        "ORCHESTRATOR_CACHE__FREE_SPACE_FLOOR": "0",
    }


@pytest.fixture(scope="module")
def server(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    data = tmp_path_factory.mktemp("ico") / "data"
    with run_server(None, data=data, env=environment(endpoint)) as running:
        yield running


def pid_of_store(endpoint: str) -> int:
    option = f"-s3.port={endpoint.rpartition(':')[2]}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if option in words:
                return int(entry.name)
    raise AssertionError("the store does not run")


def is_stored(endpoint: str, key: str) -> bool:
    return key in s3_objects(endpoint, BUCKET)


def warm_up(server: ServeProcess, endpoint: str, folder: str) -> None:
    """Let the server copy the original, and wait until its first result is stored."""
    assert fetch(f"{server.public}/ico/w40/{folder}/a.jpg").status == 200
    wait_until(lambda: is_stored(endpoint, f"{folder}/w40/a.jpg"), "first result stored", 60)


def shape_while_away(server: ServeProcess, folder: str) -> None:
    """Request a result while the store does not answer, and wait until storing it has failed."""
    answers = []

    def is_answered() -> bool:  # by the process that looked the original up before
        answers.append(fetch(f"{server.public}/ico/w50/{folder}/a.jpg"))
        return answers[-1].status == 200

    wait_until(is_answered, "a process that knows the original answers", 60)
    assert {answer.status for answer in answers} <= {200, 504}
    assert answers[-1].headers["x-served-from"] == "resize"
    wait_until(lambda: "job retry scheduled" in server.log(), "storing failed", 60)


def test_a_result_is_stored_when_the_store_is_back(server: ServeProcess, endpoint: str) -> None:
    warm_up(server, endpoint, "away")
    with paused(pid_of_store(endpoint)):
        shape_while_away(server, "away")
        assert fetch(f"{server.public}/ico/w50/away/unknown.jpg").status == 504
    wait_until(lambda: is_stored(endpoint, "away/w50/a.jpg"), "result stored", 60)


def test_a_result_is_stored_after_every_process_was_killed(endpoint: str, tmp_path: Path) -> None:
    settings = environment(endpoint)
    server = start_server(None, workers=2, data=tmp_path / "data", env=settings)
    try:
        warm_up(server, endpoint, "killed")
        with paused(pid_of_store(endpoint)):
            shape_while_away(server, "killed")
            server.stop(graceful=False)
    finally:
        server.stop(graceful=False)
    assert not is_stored(endpoint, "killed/w50/a.jpg")
    with run_server(None, data=tmp_path / "data", env=settings):
        wait_until(lambda: is_stored(endpoint, "killed/w50/a.jpg"), "result stored", 60)


def test_a_picture_is_answered_while_the_database_is_away(
    server: ServeProcess, endpoint: str
) -> None:
    warm_up(server, endpoint, "unrecorded")
    with paused(*postgres_pids(server.data)):
        answer = fetch(f"{server.public}/ico/w60/unrecorded/a.jpg")
        assert (answer.status, answer.headers["x-served-from"]) == (200, "resize")
        wait_until(lambda: "results not recorded" in server.log(), "the failure is logged", 60)
    assert server.metric("ico_results_total", outcome="unrecorded") == 1
