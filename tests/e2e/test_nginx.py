"""The example configuration for nginx, with other ports and folders, in front of a server."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import run_command
from tests.support import pictures
from tests.support.serve_process import ServeProcess, assert_log_clean, fetch, free_port, run_server

CONFIG = Path(__file__).parents[2] / "config" / "nginx.conf"
TILE = "/iiif/3/1%2F1%2Fsub%252Fpage/0,0,256,256/128,/0/default.jpg"


@pytest.fixture(scope="module")
def server(module_folder: Path) -> Iterator[ServeProcess]:
    (module_folder / "sub").mkdir()
    pictures.jpeg(module_folder / "sub" / "page.jpg", 900, 700)
    env = {"ORCHESTRATOR_SERVER__TRUSTED_PROXIES": "127.0.0.1"}
    with run_server(module_folder, workers=1, env=env) as server:
        server.wait_converted()
        yield server
        assert_log_clean(server.log())


@pytest.fixture(scope="module")
def nginx(server: ServeProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    text = CONFIG.read_text().replace("listen 80;", f"listen 127.0.0.1:{port};")
    text = text.replace(
        "server orchestrator:8080", f"server {server.public.removeprefix('http://')}"
    )
    text = text.replace("/var/cache/nginx", str(folder / "cache"))
    text = re.sub(r"pid .*?;", f"pid {folder}/pid; daemon off;", text)
    text = text.replace("http {", f"http {{ client_body_temp_path {folder}/body;", 1)
    (folder / "nginx.conf").write_text(text)
    words = ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", "stderr"]
    if os.geteuid() == 0:  # otherwise its workers cannot read the test's folder
        words += ["-g", "user root;"]
    with subprocess.Popen(words) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 20
            while True:
                try:
                    fetch(address, timeout_s=2)
                    break
                except OSError:
                    assert time.monotonic() < deadline, "nginx did not start"
                    time.sleep(0.05)
            yield address
        finally:
            process.terminate()


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
    deadline = time.monotonic() + 2
    while fetch(nginx + other, Cookie=str(time.monotonic_ns())).status != 401:
        assert time.monotonic() < deadline
    for _ in range(2):
        answer = fetch(nginx + other, Authorization=f"Bearer {token}")
        assert (answer.status, answer.headers["x-cache"]) == (200, "BYPASS")
        assert fetch(nginx + other).status == 401


def test_health_checks_are_not_public(nginx: str) -> None:
    assert fetch(f"{nginx}/health/ready").status == 404
