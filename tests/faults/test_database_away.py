"""The database is killed while images are served: known images are still served, and the server
recovers without an operator.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from tests.support import pictures
from tests.support.serve_process import assert_log_clean, fetch, run_server, wait_until


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
