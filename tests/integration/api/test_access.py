"""Who may ask: keys, customers, admins; and how anything malformed is refused."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import re

import pytest

from orchestrator.catalog.listener import Listener
from orchestrator.errors import Fault
from orchestrator.ingest.payload.envelopes import MAX_BODY_BYTES
from tests.integration.api.conftest import House

pytestmark = pytest.mark.asyncio(loop_scope="module")

REVEALING = [
    ("GET", "/customers"),
    ("POST", "/customers"),
    ("GET", "/customers/1"),
    ("PATCH", "/customers/1"),
    ("DELETE", "/customers/1"),
    ("GET", "/customers/1/spaces"),
    ("POST", "/customers/1/spaces"),
    ("DELETE", "/customers/1/spaces/1"),
    ("GET", "/customers/1/keys"),
    ("POST", "/customers/1/keys"),
    ("DELETE", "/customers/1/keys/0123456789abcdef"),
    ("GET", "/customers/1/allImages"),
    ("GET", "/customers/1/bulk"),
    ("POST", "/customers/1/bulk"),
    ("GET", "/customers/1/bulk/1"),
    ("GET", "/customers/1/queue/active"),
    ("GET", "/customers/1/queue/recent"),
    ("GET", "/customers/1/spaces/1/images"),
    ("GET", "/customers/1/spaces/1/images/x"),
    ("PUT", "/customers/1/spaces/1/images/x"),
    ("PATCH", "/customers/1/spaces/1/images/x"),
    ("DELETE", "/customers/1/spaces/1/images/x"),
    ("POST", "/customers/1/spaces/1/images/x/reingest"),
    ("POST", "/asset-ingest"),
    ("POST", "/image-ingest"),
    ("GET", "/customers/1/queue"),
    ("POST", "/customers/1/queue"),
    ("GET", "/customers/1/queue/priority"),
    ("POST", "/customers/1/queue/priority"),
    ("GET", "/customers/1/queue/batches"),
    ("GET", "/customers/1/queue/batches/1"),
    ("GET", "/customers/1/originStrategies"),
    ("POST", "/customers/1/originStrategies/test"),
    ("GET", "/imageOptimisationPolicies"),
    ("PUT", "/thumbnailPolicies/x"),
    ("GET", "/customers/1/thumbnailPolicies"),
    ("GET", "/customers/1/storagePolicy"),
    ("GET", "/jobs"),
    ("POST", "/jobs/1/cancel"),
    ("GET", "/admin"),
    ("GET", "/admin/live"),
    ("POST", "/admin/jobs/1/retry"),
]


@pytest.mark.parametrize(("method", "path"), REVEALING, ids=lambda word: word)
async def test_every_operation_with_private_data_needs_a_key(house: House, method: str, path: str):
    for authorization in ("", "Bearer nonsense", "Bearer a.b", "Basic !!", "Digest x"):
        headers = {"Authorization": authorization} if authorization else {}
        reply = await house.ask(method, path, key="", **headers)
        assert reply.status == 401
        assert "Bearer" in reply.headers["www-authenticate"]
        assert reply.code == "key_required"
        assert reply.headers["cache-control"] == "no-store"


async def test_health_metrics_and_the_document_need_no_key(house: House):
    for path in ("/metrics", "/health/live", "/openapi.json"):
        assert (await house.ask("GET", path, key="")).status == 200


async def test_a_key_is_accepted_as_bearer_or_basic_until_it_is_revoked(house: House):
    made = await house.services.catalog.keys.create(1)
    basic = base64.b64encode(f"{made.id}:{made.secret}".encode()).decode()
    forms = [f"Bearer {made.token}", f"bearer {made.id}:{made.secret}", f"Basic {basic}"]
    for form in forms:
        assert (await house.ask("GET", "/jobs", key="", Authorization=form)).status == 200
    await house.services.catalog.keys.revoke(made.id)
    for form in forms:
        assert (await house.ask("GET", "/jobs", key="", Authorization=form)).status == 401


async def test_a_key_is_replaced_without_a_refused_request(house: House):
    """A second one is created, then the first one is revoked."""
    customer = await house.customer()
    first = house.keys[customer]
    keys = f"/customers/{customer}/keys"
    second = (await house.ask("POST", keys, {"label": "second"}, key=first)).json["token"]
    for key in (first, second):
        assert (await house.ask("GET", keys, key=key)).status == 200
    revoke = f"{keys}/{first.partition('.')[0]}"
    assert (await house.ask("DELETE", revoke, key=second)).status == 204
    assert (await house.ask("GET", keys, key=first)).status == 401
    assert (await house.ask("GET", keys, key=second)).status == 200
    house.keys[customer] = second


async def test_a_page_of_another_site_cannot_use_the_password_a_browser_remembers(house: House):
    made = await house.services.catalog.keys.create(1)
    basic = "Basic " + base64.b64encode(f"{made.id}:{made.secret}".encode()).decode()
    body = json.dumps({"id": "1/1/forged", "origin": house.picture()}).encode()
    forged = await house.ask(
        "POST",
        "/asset-ingest",
        body,
        key="",
        Authorization=basic,
        Origin="https://evil.example",
        Content_Type="text/plain",
    )
    assert forged.status == 403
    for own in ({"Origin": f"http://127.0.0.1:{house.port}"}, {}):
        reply = await house.ask("POST", "/asset-ingest", body, key="", Authorization=basic, **own)
        assert reply.status == 200, reply.body
    bearer = await house.ask("POST", "/asset-ingest", body, key=1, Origin="https://app.example")
    assert bearer.status == 200


async def test_a_key_gives_access_to_its_customer_only_and_an_admin_key_to_all(house: House):
    mine, other = await house.customer(), await house.customer()
    for path in ("queue", "spaces/1/images", "originStrategies", "storagePolicy"):
        assert (await house.ask("GET", f"/customers/{mine}/{path}")).status == 200
        refused = await house.ask("GET", f"/customers/{mine}/{path}", key=other)
        assert (refused.status, refused.code) == (403, "forbidden")
        assert (await house.ask("GET", f"/customers/{mine}/{path}", key=house.admin)).status == 200
    unknown = await house.ask("GET", "/customers/99999/queue", key=house.admin)
    assert unknown.status == 404
    assert (await house.ask("GET", "/customers/99999/queue", key=mine)).status == 403


async def test_only_an_admin_key_changes_global_policies_and_limits(house: House):
    sizes = {"sizes": [100]}
    assert (await house.ask("PUT", "/thumbnailPolicies/mine", sizes, key=1)).status == 403
    assert (await house.ask("DELETE", "/thumbnailPolicies/mine", key=1)).status == 403
    assert (await house.ask("PUT", "/customers/1/storagePolicy", {}, key=1)).status == 403
    assert (await house.ask("PUT", "/customers/1/storagePolicy", {}, key=house.admin)).status == 200


async def test_unknown_paths_and_methods_are_answered_with_json(house: House):
    for path in ("/customers/x", "/customers/x/queue", "/customers/1/queue/batches/x", "/nothing"):
        reply = await house.ask("GET", path)
        assert (reply.status, reply.json["status"]) == (404, 404)
    reply = await house.ask("PUT", "/customers/1/queue", {})
    assert reply.status == 405
    assert {"GET", "POST"} <= set(reply.headers["allow"].split(", "))


BODY = json.dumps({"id": "1/1/x", "origin": "https://example.org/x"}).encode()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"null", {"Content_Type": "application/json"}, 400),
        (b"\xff" * 100, {}, 400),
        (b"[" * 100_000, {}, 400),
        (BODY, {"Content_Type": "application/x-www-form-urlencoded"}, 415),
        (BODY, {"Content_Type": "text/html"}, 415),
        (b"x" * (MAX_BODY_BYTES + 1), {}, 413),
        (BODY, {"Content_Encoding": "gzip"}, 400),
        (gzip.compress(b" " * 50_000_000), {"Content_Encoding": "gzip"}, 413),
    ],
    ids=range(11),
)
async def test_an_invalid_body_is_refused_with_its_fault(
    house: House, body: bytes, headers: dict[str, str], status: int
):
    reply = await house.ask("POST", "/asset-ingest", body, **headers)
    assert reply.status == status, reply.body
    assert set(reply.json) >= {
        "error",
        "status",
        "requestId",
        "code",
        "stage",
        "retryable",
        "detail",
    }


async def test_bodies_without_a_type_of_json_types_and_with_gzip_are_read(house: House):
    origin = house.picture()
    for at, (pack, headers) in enumerate(
        [
            (bytes, {}),
            (bytes, {"Content_Type": "application/json; charset=utf-8"}),
            (bytes, {"Content_Type": "application/ld+json"}),
            (bytes, {"Content_Type": "text/plain"}),
            (gzip.compress, {"Content_Encoding": "gzip"}),
        ]
    ):
        body = json.dumps({"id": f"1/9/body{at}", "origin": origin}).encode()
        reply = await house.ask("POST", "/asset-ingest", pack(body), key=1, **headers)
        assert reply.status == 200, reply.body


async def test_a_body_that_does_not_arrive_in_time_is_408(house: House):
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    head = f"POST /asset-ingest HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.admin}\r\n"
    writer.write(head.encode() + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"id"\r\nzz\r\n')
    status = (await reader.readline()).split()[1]
    assert status in (b"400", b"408")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=1001", "limit=", "before=-1", "state=odd", "batch=x"]
)
async def test_an_invalid_query_is_refused(house: House, query: str):
    reply = await house.ask("GET", f"/jobs?{query}")
    assert reply.status == 400
    assert query.split("=")[0] in reply.json["error"]


async def test_the_admin_page_needs_an_admin_key_and_escapes_its_values(house: House):
    assert (await house.ask("GET", "/admin", key=1)).status == 403
    seen = (await house.ask("GET", "/admin")).json
    assert {each["name"] for each in seen["caches"]} == {"derivatives", "sources"}
    name = "<script>alert(1)<%2Fscript>"
    body = [{"id": name, "space": 1, "origin": "https://example.org/x"}]
    posted = await house.ask("POST", "/customers/1/queue", body)
    assert posted.status == 201, posted.body
    job = await house.services.catalog.claims.claim("t", ["ingest"], ["normal"], 10)
    assert job is not None
    fault = Fault("unprocessable", "probe", retryable=False, detail="<b>no</b>")
    await house.services.catalog.claims.fail(job, fault)
    page = await house.ask("GET", "/admin", Accept="text/html,*/*")
    assert page.headers["content-type"].startswith("text/html")
    assert "unsafe" not in page.headers["content-security-policy"]
    assert b"&lt;script&gt;" in page.body
    assert b"<script>" not in page.body
    assert b"<b>no" not in page.body


async def test_a_person_retries_a_failed_job_by_a_form(house: House):
    job = (await house.ask("GET", "/admin")).json["failing"][0]
    action = f"/admin/jobs/{job['id']}/retry"
    page = await house.ask("GET", "/admin", Accept="text/html")
    assert f'action="{action}"'.encode() in page.body
    own, other = f"http://127.0.0.1:{house.port}", "http://pictures.example"
    basic = base64.b64encode(house.admin.replace(".", ":", 1).encode()).decode()
    form = {"Authorization": f"Basic {basic}", "Accept": "text/html"}
    for origin in (other, "null"):  # the browser adds the password to a form of another site, too
        refused = await house.ask("POST", action, key="", Origin=origin, **form)
        assert refused.status == 403
    done = await house.ask("POST", action, key="", Origin=own, redirect=False, **form)
    assert (done.status, done.headers["location"]) == (303, "/admin#failed")
    assert (await house.ask("GET", f"/jobs/{job['id']}")).json["state"] != "failed"
    again = await house.ask("POST", action, key="", Origin=own, **form)
    assert again.status == 409
    assert again.headers["content-type"].startswith("text/html")
    assert b"cannot be retried" in again.body


async def test_without_a_key_the_admin_page_asks_for_one_in_words(house: House):
    page = await house.ask("GET", "/admin", key="", Accept="text/html")
    assert page.status == 401
    assert page.headers["www-authenticate"].startswith("Basic ")
    assert page.headers["content-type"].startswith("text/html")
    assert b"orchestrator keys create" in page.body
    [style] = re.findall(rb'href="(/static/page.css[^"]*)"', page.body)
    assert (await house.ask("GET", style.decode(), key="")).status == 200
    for method, path in (("GET", "/admin/live"), ("POST", "/admin/jobs/1/retry")):
        assert (await house.ask(method, path, key=1)).status == 403


async def test_the_admin_page_lists_the_processes_that_listen(house: House):
    listener = Listener(house.services.settings.database, {"t": lambda _: None}, role="worker")
    started = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(listener.run(started))
        await started.wait()
        [process] = await house.services.catalog.processes.list()
        assert (process.role, process.pid) == ("worker", os.getpid())
        page = await house.ask("GET", "/admin/live", Accept="text/html")
        assert process.host.encode() in page.body
        running.cancel()
