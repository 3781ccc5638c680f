"""Runs the installed command `orchestrator serve`, waits until it is ready, and stops it.

`with run_server(folder, workers=2) as server:` starts the command on free ports with a data
directory of its own. Leaving the block sends SIGTERM and asserts exit status 0 and that no process
of the run is left. Used by `tests/e2e`, `tests/faults` and `loadtests`; needs only the standard
library.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("orchestrator")
READY_S = 90.0
STOP_S = 40.0
_MARK = "STARTED_BY_TEST"
_ALARMS = (
    "Traceback (most recent call last)",
    "was never retrieved",
    "was never awaited",
    "Exception ignored in",
)


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Reply:
    """A whole HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def fetch(url: str, *, method: str = "GET", timeout_s: float = 60, **headers: str) -> Reply:
    """One request; header names are given with `_` for `-`. Any status is an answer; no answer
    raises OSError.
    """
    wire = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=wire)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return _reply(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error.code, error.headers, error.read())


def _reply(status: int, headers: Any, body: bytes) -> Reply:
    return Reply(status, {name.lower(): value for name, value in headers.items()}, body)


@dataclass
class ServeProcess:
    """A started `orchestrator serve`."""

    public: str
    """Base address of the public port, `http://127.0.0.1:P`."""
    private: str
    data: Path
    log_path: Path
    process: subprocess.Popen[bytes]
    mark: str
    ready_s: float = 0.0
    """Seconds from start to ready."""
    _stopped: bool = field(default=False)

    def images(self) -> list[dict[str, Any]]:
        """Every picture of the listing, all its pages."""
        found: list[dict[str, Any]] = []
        address: str | None = "/"
        while address:
            url = address if address.startswith("http") else self.public + address
            listing = fetch(url, Accept="application/json").json
            found += listing["images"]
            address = listing.get("next")
        return found

    def identifiers(self) -> dict[str, str]:
        """From each picture's id to its identifier as it stands in an IIIF address,
        percent-encoded.
        """
        return {
            each["id"]: each["info"].split("/iiif/3/")[1].removesuffix("/info.json")
            for each in self.images()
        }

    def wait_converted(self, timeout_s: float = 300, expected: int = 1) -> list[dict[str, Any]]:
        """The pictures, once at least `expected` are there and none is still being prepared."""
        deadline = time.monotonic() + timeout_s
        while True:
            images = self.images()
            busy = [each["id"] for each in images if each["state"] not in ("ready", "failed")]
            if len(images) >= expected and not busy:
                return images
            if time.monotonic() > deadline:
                seen = f"{len(images)} pictures after {timeout_s} s, still preparing {busy[:5]}"
                raise TimeoutError(f"{seen}\n{self.log_tail()}")
            self.check_alive()
            time.sleep(0.2)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples (`renders_total`), of those with these labels where any are
        named.
        """
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        total = 0.0
        for line in fetch(f"{self.private}/metrics").body.decode().splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == f"orchestrator_{name}" and all(
                each in sample for each in wanted
            ):
                total += float(value)
        return total

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            raise AssertionError(
                f"serve ended with status {self.process.returncode}\n{self.log_tail()}"
            )

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def processes(self) -> dict[int, str]:
        """Every process that descends from this run, parent or orphan: pid and command line."""
        return processes_marked(self.mark)

    def stop(self, *, graceful: bool = True) -> None:
        """End it. Graceful: SIGTERM, exit status 0 and nothing left, or AssertionError; else
        without mercy.
        """
        if self._stopped:
            return
        self._stopped = True
        try:
            if graceful:
                self.process.send_signal(signal.SIGTERM)
                self._check_end()
        finally:
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(timeout=10)

    def _check_end(self) -> None:
        try:
            status = self.process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"still running {STOP_S} s after SIGTERM\n{self.log_tail()}"
            ) from None
        assert status == 0, f"exit status {status} after SIGTERM\n{self.log_tail()}"
        deadline = time.monotonic() + 3
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, f"left running: {left}"


def processes_marked(mark: str) -> dict[int, str]:
    """Processes whose environment holds the mark of a run; children inherit it, daemons of ours
    too.
    """
    found = {}
    needle = f"{_MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and needle in (entry / "environ").read_bytes().split(b"\0"):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if any(words):  # a zombie has none
                    found[int(entry.name)] = b" ".join(words).decode(errors="replace").strip()
    return found


@contextmanager
def run_server(
    folder: Path | None = None,
    *,
    workers: int = 1,
    data: Path | None = None,
    env: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
) -> Iterator[ServeProcess]:
    """`orchestrator serve`, ready. Without `data` its data directory is a temporary one, removed
    afterwards.
    """
    own = None if data else Path(tempfile.mkdtemp(prefix="orchestrator-run-"))
    place = data or Path(f"{own}/data")
    server = start_server(folder, workers=workers, data=place, env=env, arguments=arguments)
    try:
        yield server
    except BaseException:
        server.stop(graceful=False)
        raise
    else:
        server.stop()
    finally:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)


def start_server(
    folder: Path | None,
    *,
    workers: int,
    data: Path,
    env: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
) -> ServeProcess:
    """Start it and wait until `GET /health/ready` answers 200; the caller stops it."""
    data.mkdir(parents=True, exist_ok=True)
    port, private_port, mark = free_port(), free_port(), secrets.token_hex(8)
    words = [str(COMMAND), "serve", *([str(folder)] if folder else [])]
    words += ["--port", str(port), "--private-port", str(private_port)]
    words += ["--data", str(data), "--workers", str(workers), *arguments]
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")
    }
    log_path = data.parent / f"{data.name}-serve-{port}.log"
    began = time.monotonic()
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**clean, **(env or {}), _MARK: mark},
        )
    server = ServeProcess(
        f"http://127.0.0.1:{port}",
        f"http://127.0.0.1:{private_port}",
        data,
        log_path,
        process,
        mark,
    )
    try:
        _wait_ready(server)
    except BaseException:
        server.stop(graceful=False)
        raise
    server.ready_s = time.monotonic() - began
    return server


def _wait_ready(server: ServeProcess) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        server.check_alive()
        with suppress(OSError):
            if fetch(f"{server.public}/health/ready", timeout_s=5).status == 200:
                return
        time.sleep(0.05)
    raise TimeoutError(f"not ready after {READY_S} s\n{server.log_tail()}")


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 30) -> float:
    """Ask again and again until `condition` holds; the seconds that took. Fails saying `what` did
    not come about in time.
    """
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, f"never: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


def assert_log_clean(log: str, *, allowed: tuple[str, ...] = ()) -> None:
    """No line of level error or critical, no traceback, no forgotten task; `allowed` names events a
    test provokes.
    """
    lines = log.splitlines()
    for number, line in enumerate(lines):
        level, event = "", line
        with suppress(ValueError, AttributeError):
            entry = json.loads(line)
            level, event = entry.get("level", ""), entry.get("event", "")
        if event in allowed:
            continue
        assert level not in ("error", "critical"), f"logged as {level}: {line[:2000]}"
        around = "\n".join(each[:500] for each in lines[max(0, number - 3) : number + 40])
        assert not any(alarm in line for alarm in _ALARMS), around
