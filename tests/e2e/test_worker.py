"""The installed commands `orchestrator worker` and `orchestrator jobs`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from orchestrator.catalog.batches import BatchDraft
from orchestrator.catalog.jobs import INGEST, Job, JobDraft
from orchestrator.settings import Database, Jobs
from tests.support.jobs import open_job_system
from tests.support.patience import ANSWER_S, PATIENT_DATABASE, patience
from tests.support.pictures import jpeg
from tests.support.serve_process import COMMAND, assert_log_clean, fetch, free_port, wait_until
from tests.support.server_fixtures import new_database, postgres

__all__ = ["postgres"]
PICTURES = 4


@dataclass
class Place:
    """An installation with a database of its own on the shared server."""

    folder: Path
    dsn: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its commands."""
        return {
            **os.environ,
            **PATIENT_DATABASE,
            "ORCHESTRATOR_DATABASE__DSN": self.dsn,
            "ORCHESTRATOR_INGEST__FILE_ROOTS": json.dumps([str(self.folder)]),
        }

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `orchestrator ...` to its end."""
        whole = [str(COMMAND), *words, "--data", str(self.data)]
        return subprocess.run(
            whole, capture_output=True, text=True, timeout=120, check=False, env=self.environment
        )

    def json(self, *words: str) -> Any:
        """The output of a command with --json; the command must succeed."""
        done = self.command(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def submit(self, *origins: Path) -> list[int]:
        """Submit a batch of images; returns the ids of the jobs."""
        drafts = [
            JobDraft(INGEST, {"id": f"1/1/{origin.stem}", "origin": str(origin)}, 1)
            for origin in origins
        ]

        async def submit_batch() -> list[int]:
            database = Database(dsn=SecretStr(self.dsn), answer_timeout_s=ANSWER_S)
            async with open_job_system(database, Jobs()) as system:
                return list((await system.submitter.submit(drafts, BatchDraft(1))).ids)

        return asyncio.run(submit_batch())

    def ended(self, ids: list[int]) -> list[Job]:
        """The jobs, once all have ended."""

        async def wait() -> list[Job]:
            async with open_job_system(
                Database(dsn=SecretStr(self.dsn), answer_timeout_s=ANSWER_S), Jobs()
            ) as system:
                return await system.ended(ids, 60)

        return asyncio.run(wait())


@pytest.fixture
def place(postgres: str, tmp_path: Path) -> Place:
    return Place(tmp_path, asyncio.run(new_database(postgres)))


def test_a_worker_ingests_submitted_jobs_and_ends_on_sigterm(place: Place) -> None:
    pictures = [place.folder / f"p{number}.jpg" for number in range(PICTURES)]
    for number, picture in enumerate(pictures):
        jpeg(picture, 300 + number, 200)
    missing = place.folder / "late.jpg"
    ids = place.submit(*pictures, missing)
    port, log = free_port(), place.folder / "log"
    words = ["worker", "--data", str(place.data), "--workers", "2", "--private-port", str(port)]
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [str(COMMAND), *words], stdout=output, stderr=output, env=place.environment
        )
    try:
        *good, bad = place.ended(ids)
        assert {job.state for job in good} == {"done"}
        assert bad.state == "failed"
        assert bad.fault is not None
        assert (bad.fault.code, bad.fault.stage) == ("origin_not_found", "fetch")
        assert fetch(f"http://127.0.0.1:{port}/health/ready").status == 200

        def figures() -> str:
            return fetch(f"http://127.0.0.1:{port}/metrics").body.decode()

        done = f'jobs_settled_total{{kind="ingest",outcome="done"}} {PICTURES}.0'
        wait_until(lambda: done in figures(), "the jobs are counted", 5)
        wait_until(
            lambda: 'job_dead_letters_total{code="origin_not_found"} 1.0' in figures(),
            "the dead letter is counted",
            5,
        )
        jpeg(missing, 100, 100)
        assert place.json("jobs", "retry", str(bad.id)) == {"retried": 1, "errors": {}}
        assert [job.state for job in place.ended([bad.id])] == ["done"]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30 * patience()) == 0
    finally:
        worker.kill()
        worker.wait()
    images = place.json("images", "list")
    assert {image["state"] for image in images} == {"ready"}
    assert len(images) == PICTURES + 1
    assert_log_clean(log.read_text())


def test_a_worker_whose_port_is_in_use_reports_it_in_one_line(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = place.command("worker", "--private-port", str(port))
    assert done.returncode == 1
    message = f"orchestrator: Cannot listen on port {port} of 127.0.0.1: Address already in use."
    assert [line for line in done.stderr.splitlines() if not line.startswith("{")] == [message]


def test_jobs_are_listed_shown_cancelled_and_retried(place: Place) -> None:
    ids = place.submit(*(place.folder / f"{name}.jpg" for name in "abc"))
    listed = place.json("jobs", "list")
    assert [job["id"] for job in listed] == sorted(ids, reverse=True)
    assert {job["state"] for job in listed} == {"queued"}
    shown = place.json("jobs", "show", str(ids[0]))
    assert shown["payload"]["id"] == "1/1/a"
    assert str(ids[0]) in place.command("jobs", "list").stdout
    assert place.json("jobs", "cancel", str(ids[0])) == {"cancelled": 1, "errors": {}}
    twice = place.command("jobs", "cancel", str(ids[0]), str(ids[1]), "--json")
    assert twice.returncode == 1
    result = json.loads(twice.stdout)
    assert result["cancelled"] == 1
    assert str(ids[0]) in result["errors"]
    assert place.json("jobs", "cancel", "--batch", "1") == {"cancelled": 1, "errors": {}}
    assert len(place.json("jobs", "list", "--state", "cancelled", "--batch", "1")) == 3
    assert place.json("jobs", "retry", str(ids[2])) == {"retried": 1, "errors": {}}
    assert [job["id"] for job in place.json("jobs", "list", "--state", "queued")] == [ids[2]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "999"), "There is no job 999"),
        (("list", "--state", "lost"), "lost is not a state"),
        (("cancel",), "Give the ids"),
        (("retry", "1", "--batch", "1"), "Give the ids"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_that_fails_prints_one_line(
    place: Place, words: tuple[str, ...], message: str
) -> None:
    done = place.command("jobs", *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
