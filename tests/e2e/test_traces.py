"""With a collector named, requests and jobs are traces: the client's trace goes on through the
decode workers, the jobs' own traces and the requests to other servers. Without a collector that
answers, nothing waits.
"""

from __future__ import annotations

import gzip
import io
import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.e2e.conftest import run_command
from tests.support import pictures
from tests.support.http_server import respond, run_http_server
from tests.support.patience import patience
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    fetch,
    free_port,
    run_server,
    wait_until,
)
from tests.support.weed import s3_settings, weed_server

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
SECRET = "a-signature-of-the-origin"


@dataclass
class Collector:
    """A receiver of OTLP over HTTP, and an origin that records the traces of its requests."""

    port: int = 0
    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    bodies: list[bytes] = field(default_factory=list)
    at_origin: list[str] = field(default_factory=list)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a request to the origin or to the collector."""
        if request.path.startswith("/lion.jpg"):
            self.at_origin.append(request.headers["traceparent"])
            picture = io.BytesIO()
            pictures.picture(900, 600).save(picture, "JPEG")
            respond(request, "image/jpeg", picture.getvalue())
            return
        assert request.path == "/v1/traces"
        body = request.rfile.read(int(request.headers["Content-Length"]))
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(names["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        respond(request, "application/x-protobuf", b"")

    def named(self, name: str) -> list[Span]:
        """The spans whose name begins so."""
        return [span for span in self.spans if span.name.startswith(name)]

    def wait_for(self, name: str) -> Span:
        """The first span whose name begins so."""
        wait_until(lambda: self.named(name), f"the span {name}: {[s.name for s in self.spans]}")
        return self.named(name)[0]

    def parent_of(self, span: Span) -> Span | None:
        """The span above this one."""
        above = [each for each in self.spans if each.span_id == span.parent_span_id]
        return above[0] if above else None


def attributes_of(span: Span) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


def paths(collector: Collector) -> list[str]:
    """The paths of the requests that have a span."""
    return [str(attributes_of(span).get("url.path")) for span in collector.spans]


@contextmanager
def traced(tmp_path: Path, collector: str, **more: str) -> Iterator[ServeProcess]:
    env = {
        "ORCHESTRATOR_LOG__TRACES": collector,
        "ORCHESTRATOR_INGEST__ALLOW_PRIVATE_ADDRESSES": "true",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        **more,
    }
    pictures.jpeg(tmp_path / "pictures" / "tiger.jpg", 900, 700)
    with run_server(tmp_path / "pictures", data=tmp_path / "data", env=env) as server:
        yield server
        assert_log_clean(server.log())


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    with run_http_server(made.handle) as made.port:
        yield made


@pytest.fixture(scope="module")
def server(
    collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServeProcess]:
    folder = tmp_path_factory.mktemp("traced")
    (folder / "pictures").mkdir()
    with (
        weed_server(folder / "s3") as store,
        traced(folder, f"http://127.0.0.1:{collector.port}", **s3_settings(store.endpoint)) as made,
    ):
        made.wait_converted()
        yield made


def send(server: ServeProcess, method: str, path: str, body: Any) -> None:
    key = run_command("keys", "create", "1", "--json", "--data", server.data).json["token"]
    request = urllib.request.Request(
        f"{server.private}/customers/1/{path}",
        data=json.dumps(body).encode(),
        method=method,
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json", **PARENT},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.status in (200, 201)


def lion(collector: Collector) -> str:
    return f"http://127.0.0.1:{collector.port}/lion.jpg?signature={SECRET}"


def test_a_request_continues_the_trace_of_its_client_down_to_the_decoder(
    server: ServeProcess, collector: Collector
) -> None:
    tile = f"{server.public}/iiif/3/1%2F1%2Ftiger/0,0,512,512/300,/0/default.jpg"
    answer = fetch(f"{tile}?secret=of-a-query", traceparent=PARENT["traceparent"])
    assert answer.status == 200
    decode = collector.wait_for("decode render")
    served = collector.wait_for("GET /iiif/{image}")
    assert decode.trace_id.hex() == served.trace_id.hex() == TRACE
    assert served.parent_span_id.hex() == PARENT["traceparent"].split("-")[2]
    assert collector.parent_of(decode) == served
    about = attributes_of(served)
    assert about["http.response.status_code"] == 200
    assert about["request_id"] == answer.headers["x-request-id"]
    assert about["tier"] == answer.headers["x-served-from"]
    assert "tiger" in about["url.path"]
    assert served.kind == Span.SPAN_KIND_SERVER
    assert collector.services == {"orchestrator"}
    assert b"of-a-query" not in b"".join(collector.bodies)


def test_an_answer_from_memory_has_no_span(server: ServeProcess, collector: Collector) -> None:
    image = f"{server.public}/iiif/3/1%2F1%2Ftiger/full"
    url = f"{image}/200,/0/default.jpg"
    wait_until(lambda: fetch(url).headers["x-served-from"] == "memory", "the answer is from memory")
    for _ in range(20):
        assert fetch(url).headers["x-served-from"] == "memory"
    # Spans are sent in their order: when that of a later request is there, none is missing.
    assert fetch(f"{image}/123,/0/default.jpg").status == 200
    wait_until(lambda: any("/123," in path for path in paths(collector)), "the last span")
    tiers = [attributes_of(span).get("tier") for span in collector.named("GET /iiif/{image}")]
    assert "memory" not in tiers


def test_an_ingest_is_a_trace_through_the_origin_the_decoder_and_the_store(
    server: ServeProcess, collector: Collector
) -> None:
    before = len(collector.at_origin)
    send(server, "PUT", "spaces/1/images/lion", {"origin": lion(collector)})
    (at_origin,) = collector.at_origin[before:]
    assert at_origin.split("-")[1] == TRACE
    put = collector.wait_for("PUT /customers/{customer}/spaces")
    wait_until(
        lambda: (
            {span.name for span in collector.spans if span.trace_id == put.trace_id}
            >= {"GET", "PUT", "decode probe"}
        ),
        f"the requests to the origin and the store: {[s.name for s in collector.spans]}",
    )
    (fetched,) = [span for span in collector.spans if span.span_id.hex() == at_origin.split("-")[2]]
    assert fetched.kind == Span.SPAN_KIND_CLIENT
    assert "lion.jpg" in str(attributes_of(fetched))
    assert SECRET.encode() not in b"".join(collector.bodies)


def test_a_job_is_a_trace_and_its_log_lines_name_it(
    server: ServeProcess, collector: Collector
) -> None:
    member = {"id": "queued", "space": 1, "origin": lion(collector)}
    send(server, "POST", "queue", {"member": [member]})
    job = collector.wait_for("job ingest")
    assert job.kind == Span.SPAN_KIND_CONSUMER
    assert job.trace_id.hex() != TRACE
    below = [span.name for span in collector.spans if span.trace_id == job.trace_id]
    assert {"GET", "PUT", "decode probe"} <= {*below}
    number = attributes_of(job)["job"]
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    traces = {line["trace_id"] for line in lines if line.get("job") == number}
    assert traces == {job.trace_id.hex()}
    assert collector.at_origin[-1].split("-")[1] == job.trace_id.hex()


def test_a_failure_is_a_failed_span_and_a_mistake_of_the_client_is_none(
    server: ServeProcess, collector: Collector
) -> None:
    away = {"origin": f"http://127.0.0.1:{free_port()}/lion.jpg"}
    with pytest.raises(HTTPError) as refused:
        send(server, "PUT", "spaces/1/images/away", away)
    with refused.value as error:  # its connection is open until then
        assert error.code == 502
    assert fetch(f"{server.public}/iiif/3/1%2F1%2Fmissing/info.json").status == 404

    def with_path(end: str) -> list[Span]:
        found = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
        return [span for span in found if end in str(attributes_of(span)["url.path"])]

    for end, status, code in (
        ("/images/away", 502, Status.STATUS_CODE_ERROR),
        ("missing/info.json", 404, Status.STATUS_CODE_UNSET),
    ):
        wait_until(lambda end=end: with_path(end), f"the span of {end}")
        (span,) = with_path(end)
        assert attributes_of(span)["http.response.status_code"] == status
        assert span.status.code == code


def test_a_collector_that_is_away_delays_nothing_and_is_logged_once(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    started = time.monotonic()
    with traced(tmp_path, f"http://127.0.0.1:{free_port()}") as server:
        server.wait_converted()
        for width in range(100, 110):
            answer = fetch(f"{server.public}/iiif/3/1%2F1%2Ftiger/full/{width},/0/default.jpg")
            assert answer.status == 200
        wait_until(lambda: "traces not sent" in server.log(), "the outage is logged")
        began = time.monotonic()
    assert time.monotonic() - began < 20 * patience()  # the drain, and no retries of the exporter
    minutes = (time.monotonic() - started) / 60
    assert server.log().count("traces not sent") <= 1 + minutes
    assert "Traceback" not in server.log()
    assert "opentelemetry" not in server.log()
