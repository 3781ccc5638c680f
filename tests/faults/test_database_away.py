"""The database is away while images are served, or when processes start: known images are still
served, processes start, and the server recovers without an operator.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from orchestrator.catalog.embedded.database import EmbeddedDatabase, embedded
from orchestrator.catalog.embedded.server import PostgresFolder
from tests.support import pictures
from tests.support.serve_process import assert_log_clean, fetch, run_server, wait_until

ROLES = ("serve", "housekeeping")


def test_known_images_are_served_without_the_database_until_it_is_restarted(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures.jpeg(folder / "sample.jpg", 2000, 1500)
    with run_server(folder, workers=2, data=tmp_path / "data") as server:
        server.wait_converted()
        base = f"{server.public}/iiif/3/1%2F1%2Fsample"
        for _ in range(12):  # both processes have a snapshot of the asset
            assert fetch(f"{base}/0,0,256,256/256,256/0/default.jpg").status == 200
            assert fetch(f"{base}/info.json").status == 200
        for pid, command in server.processes().items():
            if "postgres" in command:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        statuses = {
            fetch(f"{base}/{x},256,256,256/256,256/0/default.jpg").status  # never requested before
            for x in range(0, 1792, 256)
        }
        assert statuses == {200}
        assert fetch(f"{server.public}/iiif/3/1%2F1%2Fnone/info.json").status in (404, 503)
        answers = [fetch(f"{server.public}/health/ready") for _ in range(6)]
        assert {answer.status for answer in answers} == {200}, "known images can be answered"

        def is_back() -> bool:
            answers = [fetch(f"{server.public}/health/ready").json["checks"] for _ in range(6)]
            return {answer["database"] for answer in answers} == {"ok"}

        wait_until(is_back, "the database answers both processes")
        assert fetch(f"{server.public}/iiif/3/1%2F1%2Fnone/info.json").status == 404
        assert fetch(f"{base}/info.json").status == 200
        assert_log_clean(server.log())


@contextmanager
def stopped(server: EmbeddedDatabase, folder: Path) -> Iterator[None]:
    """The database is away until the end of the block."""
    PostgresFolder(folder / "postgres").stop()
    try:
        yield
    finally:
        server.revive()


def test_killed_processes_start_without_the_database_and_become_whole_when_it_is_back(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures.jpeg(folder / "sample.jpg", 800, 600)
    with (
        embedded(tmp_path / "db") as database,
        run_server(
            folder,
            workers=2,
            data=tmp_path / "data",
            env={"ORCHESTRATOR_DATABASE__DSN": database.dsn},
        ) as server,
    ):
        server.wait_converted()
        server.wait_listening(2)
        info = f"{server.public}/iiif/3/1%2F1%2Fsample/info.json"
        for _ in range(12):  # both processes have a snapshot of the asset
            assert fetch(info).status == 200
        with stopped(database, tmp_path / "db"):
            starts = server.log_events("process started")
            for role in ROLES:
                pid = next(each["child"] for each in starts if each["role"] == role)
                os.kill(pid, signal.SIGKILL)
            wait_until(
                lambda: len(server.log_events("listening")) == len(starts) + 2,
                "both processes start",
                timeout_s=120,
            )
            assert len(server.log_events("started without the database")) == 2
            # The new serve process answers, too: it cannot know the image. The other one does.
            answers = [fetch(info)]

            def have_both_answered() -> bool:
                answers.append(fetch(info))
                return {answer.status for answer in answers} == {200, 503}

            wait_until(have_both_answered, "both serve processes answer")
            assert all("retry-after" in each.headers for each in answers if each.status == 503)
            assert fetch(f"{server.private}/metrics").status == 200
            assert fetch(f"{server.private}/health/live").status == 200
            assert fetch(f"{server.private}/health/ready").status == 503
        wait_until(lambda: {fetch(info).status for _ in range(8)} == {200}, "both know the image")
        health = f"{server.public}/health/ready"
        wait_until(
            lambda: {fetch(health).json["checks"]["database"] for _ in range(8)} == {"ok"},
            "the database answers both processes",
        )
        assert len(server.log_events("process started")) == len(starts) + 2, "each starts once"
        assert_log_clean(server.log())


def test_an_installation_starts_without_the_database_and_becomes_ready_when_it_is_back(tmp_path):
    with embedded(tmp_path / "db") as database, ExitStack() as running:
        env = {"ORCHESTRATOR_DATABASE__DSN": database.dsn}
        with stopped(database, tmp_path / "db"):
            server = running.enter_context(
                run_server(data=tmp_path / "data", env=env, probe="live")
            )
            answer = fetch(f"{server.public}/iiif/3/1%2F1%2Fnone/info.json")
            assert (answer.status, answer.headers["retry-after"]) == (503, "2")
            assert fetch(f"{server.public}/health/ready").status == 503
            assert fetch(f"{server.private}/metrics").status == 200
            assert server.metric("database_breaker_open") == 1
        # The database is empty: it is migrated before it is used.
        wait_until(lambda: fetch(f"{server.public}/health/ready").status == 200, "ready")
        assert fetch(f"{server.public}/iiif/3/1%2F1%2Fnone/info.json").status == 404
        assert_log_clean(server.log())
