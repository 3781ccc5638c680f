"""The installation of the chaos run: `orchestrator serve` with two serve processes, `orchestrator
worker` beside it, an S3 server, an origin and a receiver of webhooks.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.support.chaos.chaos_pictures import make_pictures
from tests.support.chaos.known_answers import KnownAnswers
from tests.support.http_server import respond, run_http_server
from tests.support.process_table import resident_bytes
from tests.support.serve_process import (
    COMMAND,
    MARK,
    Reply,
    ServeProcess,
    fetch,
    free_port,
    processes_marked,
    start_server,
    wait_until,
)
from tests.support.weed import WeedServer, s3_settings, weed_server

ANSWER_S = 150.0
"""Longer than any time limit of the product: later answers count as missing."""
READY_S = 180.0
"""Time in which the installation is ready."""
PACE = {
    "ORCHESTRATOR_DATABASE__ANSWER_TIMEOUT_S": "0.8",
    "ORCHESTRATOR_JOBS__HEARTBEAT_S": "0.5",
    "ORCHESTRATOR_JOBS__LEASE_S": "3",
    "ORCHESTRATOR_JOBS__RETRY_FIRST_S": "0.5",
    "ORCHESTRATOR_JOBS__WORKERS": "2",
    "ORCHESTRATOR_INGEST__SWEEP_EVERY_S": "2",
    "ORCHESTRATOR_INGEST__STUCK_AFTER_S": "5",
    "ORCHESTRATOR_INGEST__ALLOW_PRIVATE_ADDRESSES": "true",
}
"""Leases are shorter than the longest pauses, so that stopped processes lose their jobs."""


@dataclass
class Site:
    """The installation, its dependencies, and what was done to them."""

    server: ServeProcess
    env: dict[str, str]
    store: WeedServer
    pictures: Path
    origin_port: int
    hooks: list[dict[str, Any]]
    """The bodies of the webhooks that arrived."""
    key: str = ""
    token: str = ""
    faults: list[str] = field(default_factory=list)
    """Every fault so far, with its time."""
    origin: subprocess.Popen[bytes] = field(init=False)
    worker: subprocess.Popen[bytes] | None = None
    known: KnownAnswers = field(default_factory=KnownAnswers)
    _worker_mark: str = ""
    _stopped: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Start the origin."""
        self.start_origin()

    def origin_of(self, picture: int) -> str:
        """The address of a picture at the origin."""
        return f"http://127.0.0.1:{self.origin_port}/{picture}.jpg"

    def ask(self, method: str, path: str, body: Any = None) -> Reply | None:
        """What the management API answers; None without an answer."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        url = self.server.private + path
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as response:
                return _reply(response.status, response)
        except urllib.error.HTTPError as error:
            with error, suppress(OSError, HTTPException):
                return _reply(error.code, error)
        except (OSError, HTTPException):
            pass  # of a process that was killed
        return None

    def note(self, what: str) -> None:
        """Record a fault."""
        self.faults.append(f"{time.strftime('%H:%M:%S')} {what}")

    def resident_bytes(self) -> int:
        """Resident memory of `serve` and `worker`, without the database."""
        worker = processes_marked(self._worker_mark)
        return self.server.resident_bytes() + sum(map(resident_bytes, worker))

    def stop_for(self, pids: list[int], seconds: float) -> None:
        """Stop processes, and continue them after `seconds`."""
        self._stopped.update(pids)
        send(pids, signal.SIGSTOP)
        time.sleep(seconds)
        send(pids, signal.SIGCONT)

    def restart(self) -> None:
        """Kill every process of the installation, as a loss of power does, and start it again."""
        self._kill_worker()
        self.server.stop(graceful=False)
        self.start_worker()
        self.start()

    def restart_supervisor(self) -> None:
        """Kill the supervisor alone: its processes end with it. Start it again."""
        _kill(self.server.process, self.server.mark)
        self.start()

    def restart_worker(self) -> None:
        """Kill the worker alone: its decode workers end with it. Start it again."""
        self._kill_worker()
        self.start_worker()

    def restart_origin(self) -> None:
        """Kill the origin and start it again."""
        self.origin.kill()
        self.origin.wait()
        self.start_origin()

    def start(self) -> None:
        """Start `serve`."""
        self.server = start_server(
            None, workers=2, data=self.server.data, env=self.env, ready_s=READY_S
        )

    def start_worker(self) -> None:
        """Start `worker`."""
        self._worker_mark = secrets.token_hex(8)
        log_path = self.server.data.with_name("worker.log")
        with log_path.open("ab") as log:
            self.worker = subprocess.Popen(
                [str(COMMAND), "worker", "--data", str(self.server.data), "--workers", "1"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.env, MARK: self._worker_mark},
            )

    def start_origin(self) -> None:
        """Start the origin."""
        words = [sys.executable, "-m", "http.server", str(self.origin_port), "--bind", "127.0.0.1"]
        quiet = subprocess.DEVNULL
        self.origin = subprocess.Popen(
            [*words, "--directory", str(self.pictures)], stdout=quiet, stderr=quiet, stdin=quiet
        )

    def check_alive(self) -> None:
        """Assert that no process ended that has no supervisor and was not killed."""
        self.server.check_alive()
        if self.worker is not None:
            assert self.worker.poll() is None, f"the worker ended: {self.worker.returncode}"

    def repair(self) -> None:
        """Continue what is stopped; wait until the installation is ready."""
        send([*self._stopped], signal.SIGCONT)

        def is_ready() -> bool:
            self.check_alive()
            with suppress(OSError):
                shown = self.ask("GET", "/customers/1/queue")
                ready = fetch(f"{self.server.public}/health/ready", timeout_s=5)
                return ready.status == 200 and shown is not None and shown.status == 200
            return False

        wait_until(is_ready, "the installation is ready after the last fault", READY_S)

    def close(self, *, graceful: bool) -> None:
        """End all processes. If graceful, assert that `worker` and `serve` exit with status 0."""
        try:
            if graceful and self.worker is not None:
                self.worker.terminate()
                assert self.worker.wait(120) == 0
            self.server.stop(graceful=graceful)
        finally:
            send([*self._stopped], signal.SIGCONT)
            self._kill_worker()
            self.server.stop(graceful=False)
            self.origin.kill()
            self.origin.wait()

    def _kill_worker(self) -> None:
        if self.worker is not None:
            _kill(self.worker, self._worker_mark)


def _kill(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill a process, and wait until all that it started have ended with it, the database
    excepted.
    """
    process.kill()
    process.wait()
    wait_until(lambda: not processes_marked(mark), "the children of a killed process end", 60)


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to those processes that still exist."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _reply(status: int, response: Any) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(status, headers, response.read())


@contextmanager
def chaos_site(folder: Path) -> Iterator[Site]:
    """A site that is ready, with a key and a token for restricted images."""
    pictures = folder / "origin"
    pictures.mkdir()
    make_pictures(pictures)
    hooks: list[dict[str, Any]] = []
    with weed_server(folder / "s3") as store, run_http_server(_recorder(hooks)) as hook_port:
        address = f"http://127.0.0.1:{hook_port}/"
        env = {**PACE, **s3_settings(store.endpoint), "ORCHESTRATOR_INGEST__WEBHOOK_URL": address}
        server = start_server(None, workers=2, data=folder / "data", env=env)
        site = Site(server, env, store, pictures, free_port(), hooks)
        try:
            site.start_worker()
            site.key = _command(site, "keys", "create", "1")["token"]
            site.token = _command(site, "token", "create", "--roles", "staff")["token"]
            yield site
        except BaseException:
            site.close(graceful=False)
            raise
        site.close(graceful=True)


def _recorder(hooks: list[dict[str, Any]]) -> Callable[[BaseHTTPRequestHandler], None]:
    def record(request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        hooks.append(json.loads(body))
        respond(request, "text/plain", b"")

    return record


def _command(site: Site, *words: str) -> Any:
    done = subprocess.run(
        [str(COMMAND), *words, "--json", "--data", str(site.server.data)],
        capture_output=True,
        check=True,
        env={**os.environ, **site.env},
    )
    return json.loads(done.stdout)
