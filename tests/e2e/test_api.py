"""The management API of the installed command: a key from the command line, assets from a real
origin, a whole batch.
"""

from __future__ import annotations

import functools
import http.server
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
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

ENV = {"ORCHESTRATOR_INGEST__ALLOW_PRIVATE_ADDRESSES": "true"}


REQUEST_IDS: list[str | None] = []
"""The ids of the requests that the origin received."""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        REQUEST_IDS.append(self.headers["X-Request-Id"])
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a web server with a few pictures."""
    folder = tmp_path_factory.mktemp("origin")
    pictures.jpeg(folder / "lion.jpg", 1200, 800)
    pictures.jpeg(folder / "tiger.jpg", 700, 900)
    (folder / "page.jpg").write_text("<!DOCTYPE html><p>Please log in")
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[ServeProcess]:
    with run_server(env=ENV) as server:
        yield server
        assert_log_clean(server.log())


@pytest.fixture(scope="module")
def key(server: ServeProcess, command: Any) -> str:
    made = command("keys", "create", 1, "--json", "--data", server.data)
    assert made.status == 0, made.err
    return str(made.json["token"])


def ask(
    method: str, url: str, key: str, body: Any = None, *, request_id: str = ""
) -> tuple[int, Any]:
    """Status and parsed body."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    if request_id:
        headers["X-Request-Id"] = request_id
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_an_asset_put_by_the_api_is_served_until_it_is_deleted(
    server: ServeProcess, key: str, origin: str
):
    at = f"{server.private}/customers/1/spaces/2/images/shelf%2Flion"
    assert fetch(at).status == 401
    status, image = ask("PUT", at, key, {"origin": f"{origin}/lion.jpg"})
    assert (status, image["state"]) == (201, "ready")
    served = f"{server.public}/iiif/3/1%2F2%2Fshelf%252Flion"
    assert fetch(f"{served}/info.json").json["width"] == 1200
    assert fetch(f"{served}/0,0,256,256/256,/0/default.jpg").status == 200
    status, image = ask("PATCH", at, key, {"roles": ["staff"]})
    assert (status, image["roles"]) == (200, ["staff"])
    wait_until(
        lambda: fetch(f"{served}/0,0,256,256/256,/0/default.jpg").status == 401,
        "the tile is refused",
        5,
    )
    status, gone = ask("DELETE", at, key)
    assert (status, gone["objects"] > 0) == (200, True)
    wait_until(lambda: fetch(f"{served}/info.json").status == 404, "the asset is gone", 5)


def test_an_admin_key_from_the_command_line_works_until_it_is_revoked(
    server: ServeProcess, key: str, command: Any
):
    policy = f"{server.private}/thumbnailPolicies/of-all"
    assert ask("PUT", policy, key, {"sizes": [64]})[0] == 403
    made = command("keys", "create", "--admin", "--json", "--data", server.data).json
    assert ask("PUT", policy, made["token"], {"sizes": [64]})[0] == 201
    assert ask("GET", f"{server.private}/admin", made["token"])[0] == 200
    revoked = command("keys", "revoke", made["id"], "--data", server.data)
    assert revoked.status == 0, revoked.err
    assert ask("PUT", policy, made["token"], {"sizes": [64]})[0] == 401
    assert command("keys", "create", "--data", server.data).status != 0


def test_a_finished_batch_lists_each_failed_asset(server: ServeProcess, key: str, origin: str):
    queue = f"{server.private}/customers/1/queue"
    names = ["lion", "tiger", "page", "unicorn"]
    body = {
        "member": [
            {"id": f"batch/{name}", "space": 3, "origin": f"{origin}/{name}.jpg"} for name in names
        ]
    }
    status, batch = ask("POST", queue, key, body)
    assert (status, batch["count"]) == (201, 4)
    at = f"{queue}/batches/{batch['id']}"
    wait_until(lambda: ask("GET", at, key)[1]["finished"] is not None, "the batch is finished", 60)
    shown = ask("GET", at, key)[1]
    assert (shown["completed"], shown["errors"], shown["remaining"]) == (2, 2, 0)
    causes = {each["image"]: each["fault"]["code"] for each in shown["failures"]}
    assert causes == {
        "1/3/batch%2Fpage": "not_an_image",
        "1/3/batch%2Funicorn": "origin_not_found",
    }
    for name, status in (("lion", 200), ("tiger", 200), ("page", 404), ("unicorn", 404)):
        url = f"{server.public}/iiif/3/1%2F3%2Fbatch%252F{name}/full/100,/0/default.jpg"
        assert fetch(url).status == status
    assert ask("GET", queue, key)[1]["size"] == 0
    status, again = ask("POST", f"{at}/retry", key)
    assert (status, again["jobs"]) == (200, 2)
    wait_until(lambda: ask("GET", at, key)[1]["errors"] == 2, "both retries have failed", 60)


def test_the_id_of_a_request_is_in_every_log_line_of_its_jobs_and_in_their_requests(
    server: ServeProcess, key: str, origin: str
):
    queue = f"{server.private}/customers/1/queue"
    names = ["tiger", "page"]
    body = {
        "member": [
            {"id": f"named/{name}", "space": 4, "origin": f"{origin}/{name}.jpg"} for name in names
        ]
    }
    before = len(server.log().splitlines())
    status, batch = ask("POST", queue, key, body, request_id="from-the-client")
    assert status == 201
    at = f"{queue}/batches/{batch['id']}"
    wait_until(lambda: ask("GET", at, key)[1]["finished"] is not None, "the batch is finished", 60)
    assert REQUEST_IDS.count("from-the-client") >= len(names)
    lines = [json.loads(line) for line in server.log().splitlines()[before:]]
    of_assets = [line for line in lines if str(line.get("asset", "")).startswith("1/4/named%2F")]
    assert {line.get("request_id") for line in of_assets} == {"from-the-client"}
    assert [line for line in of_assets if "job" in line]
