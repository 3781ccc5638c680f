"""The configurations for nginx, HAProxy and Envoy, with other ports and folders, in front of
servers: nginx caches, and each sends all requests for one image to one server.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from tests.e2e.conftest import run_command
from tests.support import pictures
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    fetch,
    free_port,
    run_server,
    wait_until,
)

CONFIG = Path(__file__).parents[2] / "config"
ENVOY = Path(sys.executable).with_name("envoy")
TILE = "/iiif/3/1%2F1%2Fsub%252Fpage/0,0,256,256/128,/0/default.jpg"
ENV = {
    "ORCHESTRATOR_SERVER__TRUSTED_PROXIES": "127.0.0.1",
    "ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original",
}
NAMES = ["sub/page", "sub/deep/page", "a name", "ÿ", "50%", *(f"plain-{n}" for n in range(15))]


@pytest.fixture(scope="module")
def server(module_folder: Path) -> Iterator[ServeProcess]:
    for name in NAMES:
        path = module_folder / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures.jpeg(path, 900 if name == NAMES[0] else 90, 700 if name == NAMES[0] else 70)
    with run_server(module_folder, workers=1, env=ENV) as server:
        server.wait_converted(expected=len(NAMES))
        yield server
        assert_log_clean(server.log())


@pytest.fixture(scope="module")
def hosts(server: ServeProcess, module_folder: Path) -> Iterator[list[ServeProcess]]:
    """Two servers with the same pictures."""
    with run_server(module_folder, workers=1, env=ENV) as other:
        yield [server, other]
        assert_log_clean(other.log())


@contextmanager
def running(words: list[str], log: Path, address: str) -> Iterator[str]:
    """Run a load balancer until the end of the block; it answers when the block begins."""

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(OSError):
            return fetch(f"{address}/", timeout_s=5).status == 200
        return False

    with log.open("wb") as out, subprocess.Popen(words, stdout=out, stderr=out) as process:
        try:
            wait_until(answers, f"{words[0]} answers")
            yield address
        finally:
            process.terminate()


@contextmanager
def nginx_before(hosts: list[ServeProcess], folder: Path) -> Iterator[str]:
    port = free_port()
    text = (CONFIG / "nginx.conf").read_text()
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};")
    servers = [f"server {each.public.removeprefix('http://')}" for each in hosts]
    text = text.replace("server orchestrator:8080", "; ".join(servers))
    text = text.replace("/var/cache/nginx", str(folder / "cache"))
    text = re.sub(r"pid .*?;", f"pid {folder}/pid; daemon off;", text)
    text = text.replace("http {", f"http {{ client_body_temp_path {folder}/body;", 1)
    (folder / "nginx.conf").write_text(text)
    words = ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", "stderr"]
    if os.geteuid() == 0:  # otherwise its workers cannot read the test's folder
        words += ["-g", "user root;"]
    with running(words, folder / "log", f"http://127.0.0.1:{port}") as address:
        yield address


@contextmanager
def haproxy_before(hosts: list[ServeProcess], folder: Path) -> Iterator[str]:
    port = free_port()
    text = (CONFIG / "haproxy.cfg").read_text()
    text = text.replace("bind :80", f"bind 127.0.0.1:{port}")
    lines = [f"server {n} {each.public.removeprefix('http://')}" for n, each in enumerate(hosts)]
    text = text.replace("server host1 orchestrator:8080", "\n    ".join(lines))
    (folder / "haproxy.cfg").write_text(text)
    words = ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
    with running(words, folder / "log", f"http://127.0.0.1:{port}") as address:
        yield address


@contextmanager
def envoy_before(hosts: list[ServeProcess], folder: Path) -> Iterator[str]:
    port = free_port()
    config = yaml.safe_load((CONFIG / "envoy.yaml").read_text())
    del config["admin"]
    listener, cluster = (config["static_resources"][name][0] for name in ("listeners", "clusters"))
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    (endpoints,) = cluster["load_assignment"]["endpoints"]
    (endpoint,) = endpoints["lb_endpoints"]
    endpoints["lb_endpoints"] = []
    for each in hosts:
        host, _, number = each.public.removeprefix("http://").partition(":")
        endpoint["endpoint"]["address"]["socket_address"] = {
            "address": host,
            "port_value": int(number),
        }
        endpoints["lb_endpoints"].append(deepcopy(endpoint))
    (folder / "envoy.json").write_text(json.dumps(config))
    words = [str(ENVOY), "-c", str(folder / "envoy.json"), "--concurrency", "1"]
    words += ["--disable-hot-restart", "-l", "warning"]
    with running(words, folder / "log", f"http://127.0.0.1:{port}") as address:
        yield address


BALANCERS = {"nginx": nginx_before, "haproxy": haproxy_before, "envoy": envoy_before}


@pytest.fixture(scope="module")
def nginx(server: ServeProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nginx_before([server], tmp_path_factory.mktemp("nginx")) as address:
        yield address


def requests_for(name: str, identifier: str) -> list[str]:
    """Requests for one image in both forms of its address; each is one that no cache has."""
    parts = quote(name, safe="")
    return [
        f"/iiif/3/{identifier}/info.json",
        f"/iiif/3/{identifier}/full/20,/0/default.jpg",
        f"/iiif/2/{identifier}/full/21,/0/default.jpg",
        f"/iiif-img/1/1/{parts}/full/22,/0/default.jpg",
        f"/iiif-img/v3/1/1/{parts}/full/23,/0/default.jpg?a=b",
    ]


@pytest.mark.parametrize("balancer", BALANCERS)
def test_all_requests_for_one_image_are_sent_to_one_host(
    balancer: str, hosts: list[ServeProcess], tmp_path: Path
) -> None:
    identifiers = hosts[0].identifiers()
    used = set()
    with BALANCERS[balancer](hosts, tmp_path) as address:
        for name in NAMES:
            escaped = name.replace("%", "%25").replace("/", "%2F")
            paths = requests_for(name, identifiers[f"1/1/{escaped}"])
            answers = [fetch(address + path) for path in paths]
            assert [each.status for each in answers] == [200] * len(paths), name
            # A request id begins with eight digits of the process that answered.
            of_image = {each.headers["x-request-id"].partition("-")[0] for each in answers}
            assert len(of_image) == 1, name
            used |= of_image
    assert len(used) == 2, "one host has all images"


@pytest.mark.parametrize("balancer", BALANCERS)
def test_a_client_cannot_set_the_address_in_documents_for_others(
    balancer: str, server: ServeProcess, tmp_path: Path
) -> None:
    forged = {
        "X_Forwarded_Host": "evil.example",
        "X_Forwarded_Proto": "https",
        "X_Forwarded_Port": "1",
        "X_Forwarded_Path": "/evil",
    }
    with BALANCERS[balancer]([server], tmp_path) as address:
        image = address + TILE.partition("/0,0,")[0]
        assert fetch(f"{image}/info.json", **forged).json["id"] == image


def test_nginx_caches_a_tile_and_passes_its_url_unchanged(nginx: str) -> None:
    first, second = fetch(nginx + TILE), fetch(nginx + TILE)
    assert (first.status, second.status) == (200, 200)
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("MISS", "HIT")
    assert first.body == second.body


def test_the_id_in_an_info_document_is_the_url_that_the_client_uses(nginx: str) -> None:
    address = nginx + TILE.partition("/0,0,")[0]
    assert fetch(address + "/info.json").json["id"] == address


def test_nginx_never_caches_a_restricted_image(nginx: str, server: ServeProcess) -> None:
    token = run_command("token", "create", "--roles", "staff", "--data", server.data).out.strip()
    words = ("images", "set", "1/1/sub%2Fpage", "--roles", "staff", "--max-unauthorised", "0")
    assert run_command(*words, "--data", server.data).status == 0
    other = TILE.replace("/128,", "/100,")
    wait_until(
        lambda: fetch(nginx + other, Cookie=str(time.monotonic_ns())).status == 401,
        "the image is restricted",
        2,
    )
    for _ in range(2):
        answer = fetch(nginx + other, Authorization=f"Bearer {token}")
        assert (answer.status, answer.headers["x-cache"]) == (200, "BYPASS")
        assert fetch(nginx + other).status == 401


def test_health_checks_are_not_public(nginx: str) -> None:
    assert fetch(f"{nginx}/health/ready").status == 404
