"""The recorded answers of a real Cantaloupe, sent again to the contract double, or to a real one
(tests/support/cantaloupe_fixture.py).
"""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.support.cantaloupe_answers import parse, plan
from tests.support.cantaloupe_fixture import Cantaloupe, cantaloupe, write_recorded_sources

RECORDED = Path(__file__).parent.parent / "support" / "cantaloupe_recorded.json"
_HOST, _PORT = "localhost:8182", ":8182"
_UNSTABLE = {"last-modified", "server", "x-powered-by"}
"""Headers whose presence is compared and whose value is not."""
_OURS = {"date", "connection"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cantaloupe]:
    with cantaloupe(tmp_path_factory.mktemp("img")) as running:
        write_recorded_sources(running.folder)
        if running.double is not None:
            running.double.charge = 0
        yield running


@dataclass
class Walk:
    """The requests, one after the other, on connections of their own."""

    server: Cantaloupe
    task: str = ""
    """The path of the last task, which the recorded request of it is changed to."""

    def differences(self, case: dict[str, Any]) -> list[str]:
        """What the answer has that the recorded one has not, in words."""
        request, recorded = case["request"], case["response"]
        path = request["path"]
        if path.startswith("/tasks/"):
            path = self.task
        status, headers, body = self._send(request, path)
        wanted = {name.lower(): value for name, value in recorded["headers"]}
        if status == 202:
            self.task = urlsplit(headers["location"]).path
            del wanted["location"], headers["location"]
        if request["method"] == "HEAD":
            # The HTTP library of the double omits it, because there is no body.
            wanted.pop("transfer-encoding", None)
            headers.pop("transfer-encoding", None)
        found = []
        if status != recorded["status"]:
            found.append(f"status {status}, not {recorded['status']}")
        names = headers.keys() - _OURS
        if names != wanted.keys() - _OURS:
            found.append(f"headers differ: {sorted(names ^ (wanted.keys() - _OURS))}")
        for name in names & wanted.keys() - _UNSTABLE - {"content-length"}:
            if headers[name] != self._here(wanted[name]):
                found.append(f"{name}: {headers[name]}, not {self._here(wanted[name])}")
        return found + self._differences_of_body(recorded, body, request["method"])

    def _send(self, request: dict[str, Any], path: str) -> tuple[int, dict[str, str], bytes]:
        address = urlsplit(self.server.address)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
        try:
            connection.request(
                request["method"], path, request.get("body") or None, request["headers"]
            )
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body
        finally:
            connection.close()

    def _differences_of_body(self, recorded: dict[str, Any], body: bytes, method: str) -> list[str]:
        if "json" in recorded:
            sent, wanted = json.loads(body), json.loads(self._here(json.dumps(recorded["json"])))
            if "verb" in wanted:
                return [] if (sent.keys(), sent["verb"]) == (wanted.keys(), wanted["verb"]) else [
                    f"task {sent}"
                ]  # fmt: skip
            is_same = list(sent) == list(wanted) and _as_sets(sent) == _as_sets(wanted)
            return [] if is_same else [f"document {sent}, not {wanted}"]
        if recorded.get("image_size") and method == "GET":
            size = list(Image.open(io.BytesIO(body)).size)
            return [] if size == recorded["image_size"] else [f"image size {size}"]
        if "body_first_line" in recorded:
            first = body.decode().splitlines()[0]
            names_paths = str(self.server.folder) in body.decode()
            expected = (recorded["body_first_line"], recorded["body_names_server_paths"])
            return [] if (first, names_paths) == expected else [f"{first!r}, paths {names_paths}"]
        return []

    def _here(self, text: str) -> str:
        host = urlsplit(self.server.address).netloc
        return text.replace(_HOST, host).replace(_PORT, f":{host.rpartition(':')[2]}")


def _as_sets(value: Any) -> Any:
    """The document with the lists that are hash sets in Cantaloupe, which have no order, sorted."""
    if isinstance(value, dict):
        return {key: _as_sets(each) for key, each in value.items()}
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return sorted(value)
    return [_as_sets(each) for each in value] if isinstance(value, list) else value


def test_it_answers_as_recorded(server: Cantaloupe) -> None:
    cases = json.loads(RECORDED.read_text())["cases"]
    walk = Walk(server)
    found = {case["case"]: walk.differences(case) for case in cases}
    assert len(found) == len(cases) == 202
    assert {case: each for case, each in found.items() if each} == {}


def test_the_double_charges_for_full_resolution_what_the_real_one_takes() -> None:
    def seconds(size: str) -> float:
        return plan(parse(3, ["full", size, "0", "default.jpg"]), 8000, 6000).seconds

    assert seconds("200,150") == pytest.approx(16.9, abs=0.1)
    assert seconds("200,") < 0.09
