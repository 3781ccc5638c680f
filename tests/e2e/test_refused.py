"""Pictures of a served folder that cannot be read: every answer says why, also after a restart,
until the file is replaced.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import pictures
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)

REFUSED = {
    "torn": (422, "damaged"),
    "cut": (422, "damaged"),
    "late": (422, "damaged"),
    "bomb": (413, "too_large"),
}
"""Name, status and code: a broken header, two files that end early, too many pixels."""
PARTS = ("info.json", "full/max/0/default.jpg", "0,0,64,64/64,/0/default.png")
EVENTS = ("picture not registered", "conversion failed", "job failed")


def refusals(server: ServeProcess) -> dict[str, set[tuple[int, str]]]:
    """The (status, code) of every kind of request for each picture that is not served."""
    answers: dict[str, set[tuple[int, str]]] = {}
    for name in REFUSED:
        for version in (2, 3):
            for part in PARTS:
                answer = fetch(f"{server.public}/iiif/{version}/1%2F1%2F{name}/{part}")
                code = "" if answer.status == 200 else answer.json.get("code", "")
                answers.setdefault(name, set()).add((answer.status, code))
    return answers


def listed(server: ServeProcess) -> dict[str, Any]:
    return {each["id"]: each for each in server.images()}


def is_settled(server: ServeProcess) -> bool:
    return all(each["state"] in ("ready", "failed") for each in server.images())


@pytest.mark.parametrize("policy", ["fastest", "use-original"])
def test_every_answer_for_a_refused_picture_says_why_until_the_file_is_replaced(
    tmp_path: Path, policy: str
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures.jpeg(folder / "good.jpg", 300, 200)
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    whole = pictures.jpeg(tmp_path / "whole.jpg", 600, 400)
    pictures.truncated(folder / "cut.jpg", whole, 0.6)
    drawn = pictures.png(tmp_path / "whole.png", 600, 400)
    pictures.truncated(folder / "late.png", drawn, 0.7)  # only its conversion meets the end
    pictures.png_bomb(folder / "bomb.png")
    environment = {"ORCHESTRATOR_INGEST__FOLDER_POLICY": policy}
    expected = {name: {answer} for name, answer in REFUSED.items()}
    for start in range(2):
        with run_server(folder, data=tmp_path / "data", env=environment) as server:
            wait_until(lambda: is_settled(server), "every picture is converted or failed", 60)
            assert refusals(server) == expected
            images = listed(server)
            assert images["1/1/good"]["state"] == "ready"
            for name, (_, code) in REFUSED.items():
                entry = images[f"1/1/{name}"]
                assert (entry["state"], entry["code"]) == ("failed", code)
                assert (
                    entry["error"] in fetch(f"{server.public}/", Accept="text/html").body.decode()
                )
            if start == 0:
                continue
            pictures.jpeg(folder / "torn.jpg", 120, 80)
            info = fetch(f"{server.public}/iiif/3/1%2F1%2Ftorn/info.json")
            assert (info.status, info.json["width"]) == (200, 120)
            assert (
                fetch(f"{server.public}/iiif/3/1%2F1%2Ftorn/full/max/0/default.jpg").status == 200
            )
        log = server.log()
        assert_log_clean(log, allowed=EVENTS)
        if start == 1:
            events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
            refused = [each for each in events if each.get("event") == "picture not registered"]
            assert {each["code"] for each in refused} <= {"damaged", "too_large"}
            assert not any(each.get("event") == "conversion failed" for each in events), "once"
