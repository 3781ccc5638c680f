"""The database hangs (SIGSTOP) while images are served: requests do not wait for it."""

from __future__ import annotations

import time

from orchestrator.settings import Database
from tests.support import pictures
from tests.support.patience import patience
from tests.support.pausing import paused, postgres_pids
from tests.support.serve_process import Reply, assert_log_clean, fetch, run_server, wait_until

ATTEMPTS = 8
ENV = {"ORCHESTRATOR_DATABASE__ANSWER_TIMEOUT_S": str(Database().answer_timeout_s)}
"""The default of the product, not the patient one of other tests."""
"""Requests of each kind: enough that both processes answer some."""


def timed(url: str, **headers: str) -> tuple[float, Reply]:
    began = time.monotonic()
    reply = fetch(url, **headers)
    return time.monotonic() - began, reply


def test_no_request_waits_for_a_hung_database(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures.jpeg(folder / "sample.jpg", 2000, 1500)
    with run_server(folder, workers=2, data=tmp_path / "data", env=ENV) as server:
        server.wait_converted()
        server.wait_listening(2)
        base = f"{server.public}/iiif/3/1%2F1%2Fsample"
        unknown = f"{server.public}/iiif/3/1%2F1%2Fnone"
        tiles = iter(range(0, 1024, 16))
        for _ in range(12):  # both processes have a snapshot of the asset
            assert fetch(f"{base}/info.json").status == 200
        with paused(*postgres_pids(tmp_path / "data")):
            waits = []
            for number in range(2 * ATTEMPTS):
                seconds, reply = timed(f"{unknown}{number}/info.json")
                assert reply.status == 503
                assert int(reply.headers["retry-after"]) >= 1
                waits.append(seconds)
            # One request of each process meets the hang, 0.8 s each.
            assert sum(waits) < (2 * 1.0 + 1) * patience(), waits

            # Both processes have met the hang, so that they mark what they know as stale.
            answers = [fetch(f"{base}/info.json") for _ in range(ATTEMPTS)]
            assert all("warning" in each.headers for each in answers)
            for _ in range(ATTEMPTS):
                seconds, reply = timed(f"{base}/{next(tiles)},64,64,64/max/0/default.jpg")
                assert reply.status == 200
                assert seconds < 0.9 * patience()
            assert fetch(f"{server.public}/health/live").status == 200
            assert timed(f"{server.public}/health/ready")[0] < 1.5 * patience()
            queue = f"{server.private}/customers/1/queue"
            seconds, reply = timed(queue, Authorization="Bearer 0123456789abcdef.secret")
            assert (reply.status, seconds < 1.5 * patience()) == (503, True)
            assert (
                timed(queue, Authorization="Bearer 0123456789abcdef.secret")[0] < 0.9 * patience()
            )
            assert server.metric("database_breaker_open") >= 2
        wait_until(
            lambda: {fetch(f"{unknown}/info.json").status for _ in range(ATTEMPTS)} == {404},
            "both processes read the database again",
        )
        wait_until(
            lambda: (
                not any("warning" in fetch(f"{base}/info.json").headers for _ in range(ATTEMPTS))
            ),
            "answers are no longer stale",
        )
        wait_until(lambda: server.metric("database_breaker_open") == 0, "the breakers are closed")
        assert_log_clean(server.log())
