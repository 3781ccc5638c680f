"""An installation with an S3 server and an origin, each in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from tests.support.serve_process import (
    COMMAND,
    Reply,
    ServeProcess,
    fetch,
    free_port,
    start_server,
    wait_until,
)
from tests.support.weed import s3_settings, weed

PICTURES = 24
HEIGHT = 420
PACE = {
    "ORCHESTRATOR_JOBS__HEARTBEAT_S": "0.5",
    "ORCHESTRATOR_JOBS__LEASE_S": "4",
    "ORCHESTRATOR_JOBS__RETRY_FIRST_S": "0.5",
    "ORCHESTRATOR_JOBS__WORKERS": "2",
    "ORCHESTRATOR_INGEST__SWEEP_EVERY_S": "2",
    "ORCHESTRATOR_INGEST__STUCK_AFTER_S": "5",
    "ORCHESTRATOR_INGEST__ALLOW_PRIVATE_ADDRESSES": "true",
}


def width_of(picture: int) -> int:
    """Each picture has a width of its own, which info documents tell."""
    return 600 + 8 * picture


def colour_of(picture: int) -> tuple[int, int, int]:
    """Each picture has one colour, which every region tells. Two differ by 40 in some channel."""
    return 40 + 70 * (picture % 3), 40 + 70 * (picture // 3 % 3), 40 + 70 * (picture // 9)


@dataclass
class Site:
    """The installation, its dependencies, and what was done to them."""

    server: ServeProcess
    env: dict[str, str]
    store: Path
    origin_port: int
    origin: subprocess.Popen[bytes]
    key: str = ""
    token: str = ""
    faults: list[str] = field(default_factory=list)
    """Every fault so far, with its time."""
    _stopped: set[int] = field(default_factory=set)

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
            with urllib.request.urlopen(request, timeout=30) as response:
                return Reply(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error, suppress(OSError):
                return Reply(error.code, dict(error.headers), error.read())
        except OSError:
            pass
        except Exception as error:
            assert type(error).__name__ in ("IncompleteRead", "RemoteDisconnected"), error
        return None

    def store_processes(self) -> list[int]:
        """The processes of the S3 server."""
        return [
            process.pid
            for process in psutil.Process().children(recursive=True)
            if any(f"-dir={self.store}" in word for word in _command_line(process))
        ]

    def database_processes(self) -> list[int]:
        """The processes of PostgreSQL."""
        return [pid for pid, words in self.server.processes().items() if "postgres" in words]

    def own_processes(self) -> list[int]:
        """The processes of the product below the supervisor."""
        database = self.database_processes()
        return [
            pid
            for pid in self.server.processes()
            if pid not in database and pid != self.server.process.pid
        ]

    def note(self, what: str) -> None:
        """Record a fault."""
        self.faults.append(f"{time.strftime('%H:%M:%S')} {what}")

    def stop_for(self, pids: list[int], seconds: float) -> None:
        """Stop processes, and continue them after `seconds`."""
        self._stopped.update(pids)
        _send(pids, signal.SIGSTOP)
        time.sleep(seconds)
        _send(pids, signal.SIGCONT)

    def kill(self, pids: list[int]) -> None:
        """End processes without warning."""
        _send(pids, signal.SIGKILL)

    def restart(self) -> None:
        """Kill every process of the installation, as a loss of power does, and start it again."""
        self.server.stop(graceful=False)
        self.start()

    def start(self) -> None:
        """Start the installation."""
        self.server = start_server(None, workers=2, data=self.server.data, env=self.env)

    def repair(self) -> None:
        """Continue what is stopped; wait until the installation is ready."""
        _send([*self._stopped], signal.SIGCONT)
        self.server.check_alive()

        def is_ready() -> bool:
            with suppress(OSError):
                shown = self.ask("GET", "/customers/1/queue")
                ready = fetch(f"{self.server.public}/health/ready", timeout_s=5)
                return ready.status == 200 and shown is not None and shown.status == 200
            return False

        wait_until(is_ready, "the installation is ready after the last fault", 90)


def _command_line(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return [*process.cmdline()]
    return []


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def chaos_site(folder: Path) -> Iterator[Site]:
    """A site that is ready, with a key and a token for restricted images."""
    pictures = folder / "origin"
    pictures.mkdir()
    for picture in range(PICTURES):
        size = width_of(picture), HEIGHT
        Image.new("RGB", size, colour_of(picture)).save(pictures / f"{picture}.jpg", quality=95)
    with weed(folder / "s3") as endpoint:
        port = free_port()
        words = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
        quiet = subprocess.DEVNULL
        origin = subprocess.Popen(
            [*words, "--directory", str(pictures)], stdout=quiet, stderr=quiet, stdin=quiet
        )
        env = {**PACE, **s3_settings(endpoint)}
        server = start_server(None, workers=2, data=folder / "data", env=env)
        site = Site(server, env, folder / "s3", port, origin)
        try:
            site.key = _command(site, "keys", "create", "1")["token"]
            site.token = _command(site, "token", "create", "--roles", "staff")["token"]
            yield site
            site.server.stop()
        finally:
            _send([*site._stopped], signal.SIGCONT)
            site.server.stop(graceful=False)
            origin.kill()
            origin.wait()


def _command(site: Site, *words: str) -> Any:
    done = subprocess.run(
        [str(COMMAND), *words, "--json", "--data", str(site.server.data)],
        capture_output=True,
        check=True,
        env={**os.environ, **site.env},
    )
    return json.loads(done.stdout)
