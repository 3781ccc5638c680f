"""Every how-to of `docs/how-to`, and the pages of `docs` that are listed here, are run as a reader
would run them.

A page's `sh` blocks run in order in one shell; a block marked `sh server` runs in the background,
and the next block waits until the server is ready; one marked `sh background` also runs in the
background; `sh install` and `sh path` are for `test_newcomer.py`. A `text` block is the expected
output of the block before it, where a line `...` stands for any number of lines, and ` ...` in a
line for any text. Ports and addresses of services are replaced by those of this run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.support import pictures
from tests.support.cantaloupe_double import cantaloupe_double
from tests.support.http_server import respond, run_http_server
from tests.support.patience import patience
from tests.support.serve_process import free_port
from tests.support.weed import BUCKET, s3_client, weed

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    *sorted((DOCS / "how-to").glob("*.md")),
    DOCS / "quick-start.md",
    DOCS / "api.md",
    DOCS / "ico.md",
    DOCS / "manifests.md",
    DOCS / "uploads.md",
    DOCS / "pyramids.md",
    DOCS / "sign-in.md",
]
MARK = "@@@"
PRELUDE = """
set -euo pipefail
server=
stop_server() {
  [ -z "$server" ] || { kill -TERM "$server" || true; wait "$server" || true; server=; }
}
stop_all() { stop_server; kill $(jobs -p) 2> /dev/null || true; }
trap stop_all EXIT
wait_until_ready() {
  for _ in $(seq 600); do
    curl -sf -o ready.json "http://localhost:$ORCHESTRATOR_SERVER__PORT/health/ready" && return
    kill -0 "$server" || { cat server.log >&2; exit 1; }
    sleep 0.1
  done
  echo "not ready" >&2; exit 1
}
"""


@dataclass(frozen=True)
class Block:
    """A shell block with the output that the page promises, None if it promises none. `kind` is
    `sh`, `sh server` or `sh background`.
    """

    kind: str
    text: str
    output: str | None = None


def blocks_of(page: str) -> list[Block]:
    found: list[Block] = []
    for kind, text in re.findall(
        r"^```(sh server|sh background|sh|text)\n(.*?)^```$", page, re.M | re.S
    ):
        if kind == "text":
            found[-1] = replace(found[-1], output=text)
        else:
            found.append(Block(kind, text))
    return found


def script_of(blocks: list[Block]) -> str:
    parts = [PRELUDE]
    for number, block in enumerate(blocks):
        parts.append(f"printf '\\n{MARK} {number}\\n'\n")
        if block.kind == "sh server":
            lines = block.text.strip().split("\n")
            lines[-1] = f"exec {lines[-1]}"
            body = "\n".join(lines)
            parts.append(f"stop_server\n({body}\n) > server.log 2>&1 &\nserver=$!\n")
            parts.append("wait_until_ready\n")
        elif block.kind == "sh background":
            parts.append(f"(exec {block.text.strip()}) > background.log 2>&1 &\n")
        else:
            # Notices of a change take a second; on a busy machine longer.
            parts.append(re.sub(r"^sleep 1$", f"sleep {patience():.1f}", block.text, flags=re.M))
    return "".join(parts)


def matches(expected: str, printed: str) -> bool:
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\ \.\.\.", ".*") + "\n"
        for line in expected.strip().split("\n")
    )
    lines = "".join(f"{line.rstrip()}\n" for line in printed.strip().split("\n"))
    return re.fullmatch(pattern, lines) is not None


# --- the services that pages speak of ---------------------------------------------------------


@contextmanager
def bucket(folder: Path, originals: Path) -> Iterator[str]:
    with weed(folder) as endpoint:
        client = s3_client(endpoint)
        for path in originals.iterdir():
            client.put_object(Bucket=BUCKET, Key=f"scans/{path.name}", Body=path.read_bytes())
        client.close()
        yield endpoint.removeprefix("http://")


def fill_pyramid_buckets(endpoint: str, folder: Path) -> None:
    """Create the buckets of `docs/pyramids.md`: ten pictures, and the note of one."""
    names = [f"digital/{letter}/{number:03d}.jpg" for letter in "abc" for number in (1, 2, 3)]
    client = s3_client(f"http://{endpoint}")
    for name in ("rbsc", "process", "images"):
        client.create_bucket(Bucket=name)
    for seed, name in enumerate(["digital/isaac_gala/lantern.png", *names]):
        path = pictures.png(folder / "one.png", 1200 - seed, 900, seed)
        if name.endswith("jpg"):
            path = pictures.jpeg(folder / "one.jpg", 1200 - seed, 900, seed)
        client.put_object(Bucket="rbsc", Key=name, Body=path.read_bytes())
    note = {"key": "digital/isaac_gala/lantern.png", "path": "digital/isaac_gala/"}
    client.put_object(Bucket="process", Key="rbsc/lantern.json", Body=json.dumps(note).encode())
    client.close()


def web_server(folder: Path) -> Callable[[BaseHTTPRequestHandler], None]:
    """A handler that answers with the pictures of a folder."""

    def handle(request: BaseHTTPRequestHandler) -> None:
        file = folder / request.path.removeprefix("/")
        if file.is_file():
            respond(request, "image/jpeg", file.read_bytes())
        else:
            request.send_error(404)

    return handle


@contextmanager
def services(page: str, folder: Path) -> Iterator[tuple[dict[str, str], list[Any]]]:
    """The addresses that replace those of the page, and the purges that a CDN received."""
    purges: list[Any] = []

    def take_purge(request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers["Content-Length"])
        purges.append(json.loads(request.rfile.read(length)))
        respond(request, "text/plain", b"")

    with ExitStack() as stack:
        addresses: dict[str, str] = {}
        if "localhost:8333" in page:
            s3 = bucket(folder / "weed", folder / "pictures")
            addresses["localhost:8333"] = stack.enter_context(s3)
            if "RBSC_BUCKET" in page:
                fill_pyramid_buckets(addresses["localhost:8333"], folder)
        if "localhost:8182" in page:
            double = stack.enter_context(cantaloupe_double(folder / "data"))
            addresses["localhost:8182"] = double.address.removeprefix("http://")
        if "localhost:9001" in page:
            port = stack.enter_context(run_http_server(web_server(folder / "pictures")))
            addresses["localhost:9001"] = f"localhost:{port}"
        if "localhost:9000" in page:
            port = stack.enter_context(run_http_server(take_purge))
            addresses["localhost:9000"] = f"localhost:{port}"
        if "localhost:8088" in page:
            addresses["localhost:8088"] = f"localhost:{free_port()}"
        yield addresses, purges


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    (tmp_path / "pictures").mkdir()
    pictures.jpeg(tmp_path / "pictures" / "page.jpg", 1600, 1200)
    pictures.jpeg(tmp_path / "pictures" / "map.jpg", 900, 700)
    pictures.pdf(tmp_path / "pages.pdf", 200, 300, pages=2)
    if page.stem == "api":
        pictures.jpeg(tmp_path / "pictures" / "lion.jpg", 1200, 800)
        pictures.jpeg(tmp_path / "pictures" / "tiger.jpg", 700, 900)
    port, private_port = free_port(), free_port()
    with services(text, tmp_path) as (addresses, purges):
        addresses |= {"localhost:8080": f"localhost:{port}"}
        addresses |= {"localhost:8081": f"localhost:{private_port}"}
        local = re.sub(r"localhost:\d+", lambda match: addresses.get(match[0], match[0]), text)
        blocks = blocks_of(local.replace("/var/lib/orchestrator", str(tmp_path / "data")))
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("ORCHESTRATOR_")
        } | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ORCHESTRATOR_SERVER__PORT": str(port),
            "ORCHESTRATOR_SERVER__PRIVATE_PORT": str(private_port),
            "ORCHESTRATOR_SERVER__DATA_DIR": str(tmp_path / "data"),
            "ORCHESTRATOR_IMAGING__PROCESSES": "1",
        }
        run = subprocess.run(
            ["bash", "-c", script_of(blocks)],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200 * patience(),
        )
        log = tmp_path / "server.log"
        report = f"{run.stdout}\n{run.stderr}\n{log.read_text() if log.exists() else ''}"
        assert run.returncode == 0, report
        printed = re.split(rf"^{MARK} \d+\n", run.stdout, flags=re.M)[1:]
        for block, output in zip(blocks, printed, strict=True):
            if block.output is not None:
                assert matches(block.output, output), f"{block.text}\nprinted:\n{output}"
    if "localhost:9000" in text:
        assert {"surrogate_keys": ["asset-1%2F1%2Fpage"], "tags": ["asset-1%2F1%2Fpage"]} in purges


def test_every_common_task_has_its_page() -> None:
    assert {page.stem for page in PAGES} >= {
        "serve-a-folder",
        "ingest-from-s3",
        "use-cantaloupe",
        "use-a-cdn",
        "restrict-images",
        "size-the-cache",
        "back-up-and-restore",
        "move-from-cantaloupe",
        "move-from-the-dlcs",
        "move-from-iipimage",
        "quick-start",
    }


def test_the_programs_of_the_pages_are_there() -> None:
    assert [
        name
        for name in ("bash", "curl", "jq", "nginx", "openssl", "rsync")
        if shutil.which(name) is None
    ] == []
