"""The corpus of invalid URLs over HTTP: each gets a clear 4xx and none a 500. Invalid syntax causes
no work, no answer reveals internals, and what needs more decoded pixels than allowed is refused.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import pictures
from tests.support.patience import patience
from tests.support.serve_process import assert_log_clean, fetch, run_server

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
    limits = {"ORCHESTRATOR_IIIF__MAX_DECODE_PIXELS": "500000"}
    with run_server(folder, env=limits) as server:
        server.wait_converted()
        yield server
        assert_log_clean(server.log())


def send(host: str, target: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(host, timeout=10 * patience())
    connection._validate_path = lambda _path: None  # the client must send invalid targets
    connection._encode_request = lambda text: text.encode("utf-8")
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_the_corpus_is_large():
    assert len(set(corpus())) >= 500


def test_every_invalid_url_gets_the_required_status_and_a_clear_error(server):
    host = server.public.removeprefix("http://")
    failures = []
    for expected, target in corpus():
        status, headers, body = send(host, target)
        faults = []
        if status != expected:
            faults.append(f"{status} instead of {expected}")
        if headers.get("Access-Control-Allow-Origin") != "*":
            faults.append("no CORS")
        try:
            document = json.loads(body)
            if set(document) != {"error", "status", "requestId"} or document["status"] != status:
                faults.append(f"other fields: {body[:100]!r}")
        except ValueError:
            faults.append(f"not JSON: {body[:100]!r}")
        if LEAKS.search(body) or len(body) > 2000:
            faults.append(f"reveals internals: {body[:200]!r}")
        if faults:
            failures.append(f"{target[:150]}: {'; '.join(faults)}")
    assert not failures, f"{len(failures)} failures\n" + "\n".join(failures[:40])


def test_invalid_syntax_causes_no_look_up_and_no_render(server):
    """A malformed request for an unknown asset is 400, not 404, and changes no counter of work."""
    before = server.metric("renders_total"), server.metric("tier_lookups_total")
    host = server.public.removeprefix("http://")
    for rest in (
        "full/x/0/default.jpg",
        "1,2,3/max/0/default.jpg",
        "full/max/361/default.jpg",
        "full/max/0/default.exe",
    ):
        assert send(host, f"/iiif/3/1%2F1%2Fno-such-image/{rest}")[0] == 400
    assert (server.metric("renders_total"), server.metric("tier_lookups_total")) == before


def test_a_request_that_needs_too_many_decoded_pixels_is_413_and_smaller_requests_are_answered(
    server,
):
    base = f"{server.public}/iiif/3/1%2F1%2Fsample"
    before = server.metric("renders_total")
    refused = fetch(f"{base}/full/max/0/default.png")
    assert refused.status == 413
    assert "smaller" in refused.json["error"]
    assert server.metric("renders_total") == before
    assert fetch(f"{base}/0,0,512,512/512,/0/default.png").status == 200
    assert fetch(f"{base}/full/max/0/default.jpg").status == 413
    assert fetch(f"{base}/full/400,/0/default.jpg").status == 200
