"""The corpus of bad addresses over HTTP: each a clear 4xx, none a 500, nothing read, nothing
given away.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import pictures
from tests.support.serve_process import assert_log_clean, run_server

CORPUS = Path(__file__).parent.parent / "corpus" / "bad_urls.txt"
LEAKS = re.compile(rb"Traceback|/(usr|home|var|tmp|root|etc)/|File \"|Exception|Error:|root:x")


def corpus() -> Iterator[tuple[int, str]]:
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            status, _, target = line.partition("\t")
            yield int(status), target


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    pictures.jpeg(folder / "sample.jpg", 1200, 900)
    with run_server(folder, workers=2) as server:
        server.wait_converted()
        yield server
        assert_log_clean(server.log())


def ask(host: str, target: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(host, timeout=10)
    connection._validate_path = lambda _path: None  # hostile targets are the point
    connection._encode_request = lambda text: text.encode("utf-8")
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_the_corpus_is_large():
    assert len(set(corpus())) >= 500


def test_every_bad_address_is_refused_clearly(server):
    host = server.public.removeprefix("http://")
    wrong = []
    for expected, target in corpus():
        status, headers, body = ask(host, target)
        faults = []
        if status != expected:
            faults.append(f"{status} instead of {expected}")
        if headers.get("Access-Control-Allow-Origin") != "*":
            faults.append("no CORS")
        try:
            shape = json.loads(body)
            if set(shape) != {"error", "status", "requestId"} or shape["status"] != status:
                faults.append(f"another shape: {body[:100]!r}")
        except ValueError:
            faults.append(f"not JSON: {body[:100]!r}")
        if LEAKS.search(body) or len(body) > 2000:
            faults.append(f"tells too much: {body[:200]!r}")
        if faults:
            wrong.append(f"{target[:150]}: {'; '.join(faults)}")
    assert not wrong, f"{len(wrong)} wrong\n" + "\n".join(wrong[:40])


def test_syntax_errors_cost_no_look_up_and_no_render(server):
    """A malformed request for an unknown image is 400, not 404, and leaves every work counter
    where it was.
    """
    before = server.metric("renders_total"), server.metric("tier_lookups_total")
    host = server.public.removeprefix("http://")
    for rest in (
        "full/x/0/default.jpg",
        "1,2,3/max/0/default.jpg",
        "full/max/361/default.jpg",
        "full/max/0/default.exe",
    ):
        assert ask(host, f"/iiif/3/1%2F1%2Fno-such-image/{rest}")[0] == 400
    assert (server.metric("renders_total"), server.metric("tier_lookups_total")) == before
