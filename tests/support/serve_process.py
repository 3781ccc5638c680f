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

from tests.support.patience import PATIENT_DATABASE, patience
from tests.support.process_table import resident_bytes

COMMAND = Path(sys.executable).with_name("orchestrator")
READY_S = 90.0
STOP_S = 40.0
MARK = "STARTED_BY_TEST"
_ALARMS = (
    "Traceback (most recent call last)",
    "was never retrieved",
    "was never awaited",
    "Exception ignored in",
)


def free_port() -> int:
    """A TCP port of the loopback interface that no process listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Reply:
    """An HTTP response. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def fetch(url: str, *, method: str = "GET", timeout_s: float = 60, **headers: str) -> Reply:
    """Send one request; header names are written with `_` for `-`. Returns the response with any
    status. Raises OSError without a response.
    """
    wire_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=wire_headers)
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
    """A running `orchestrator serve`, ready to answer."""

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
        """Every asset of the list, from all its pages: those that are shown and those refused."""
        images: list[dict[str, Any]] = []
        address: str | None = "/"
        while address:
            url = address if address.startswith("http") else self.public + address
            listing = fetch(url, Accept="application/json").json
            images += listing["images"] + listing.get("refused", [])
            address = listing.get("next")
        return images

    def identifiers(self) -> dict[str, str]:
        """The identifier of each asset in IIIF URLs, percent-encoded, by asset id."""
        return {
            each["id"]: each["info"].split("/iiif/3/")[1].removesuffix("/info.json")
            for each in self.images()
        }

    def wait_converted(self, timeout_s: float = 300, expected: int = 1) -> list[dict[str, Any]]:
        """Wait until at least `expected` assets are listed and all are done; returns the list."""
        deadline = time.monotonic() + timeout_s * patience()
        while True:
            images = self.images()
            busy = [each["id"] for each in images if each["state"] not in ("ready", "failed")]
            if len(images) >= expected and not busy:
                return images
            if time.monotonic() > deadline:
                progress = f"{len(images)} assets after {timeout_s} s, not ready: {busy[:5]}"
                raise TimeoutError(f"{progress}\n{self.log_tail()}")
            self.check_alive()
            time.sleep(0.2)

    def temporary_files(self) -> list[Path]:
        """What work in progress has written below the data directory; locks stay."""
        scratch = [path for path in self.data.glob("scratch/**/*") if path.is_file()]
        left = [path for path in scratch if path.suffix != ".lock"]
        return [*left, *self.data.glob("cache/*/.temp/*")]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of a metric (`renders_total`) that have these labels."""
        pairs = [f'{label}="{value}"' for label, value in labels.items()]
        samples = self.samples(name)
        return sum(value for given, value in samples if all(pair in given for pair in pairs))

    def samples(self, name: str) -> list[tuple[str, float]]:
        """The samples of a metric, read at one time: labels as text, and value."""
        found = []
        for line in fetch(f"{self.private}/metrics").body.decode().splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == f"orchestrator_{name}":
                found.append((sample, float(value)))
        return found

    def stalls(self) -> float:
        """How often an event loop of this run worked for more than 20 ms without a pause."""
        buckets = self.samples("event_loop_blocked_seconds_bucket")
        within = sum(value for labels, value in buckets if 'le="0.02"' in labels)
        return sum(value for labels, value in buckets if 'le="+Inf"' in labels) - within

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            raise AssertionError(
                f"serve ended with status {self.process.returncode}\n{self.log_tail()}"
            )

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def log_events(self, event: str) -> list[dict[str, Any]]:
        """The fields of each line of the log that has this event."""
        lines = [line for line in self.log().splitlines() if f'"{event}"' in line]
        return [entry for line in lines if (entry := json.loads(line))["event"] == event]

    def wait_listening(self, workers: int) -> None:
        """Wait until so many serve processes listen: the server is ready when the first one is."""
        wait_until(
            lambda: (
                sum(each["role"] == "serve" for each in self.log_events("listening")) >= workers
            ),
            f"{workers} serve processes listen",
            READY_S,
        )

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def processes(self) -> dict[int, str]:
        """Every process of this run, including orphans and the embedded database: pid and command
        line.
        """
        return processes_marked(self.mark) | database_processes(self.data)

    def resident_bytes(self) -> int:
        """Resident memory of all processes of this run, without the database."""
        return sum(map(resident_bytes, processes_marked(self.mark)))

    def stop(self, *, graceful: bool = True) -> None:
        """Stop all processes. If graceful: send SIGTERM, and raise AssertionError unless the exit
        status is 0 and no process is left. Otherwise send SIGKILL.
        """
        if self._stopped:
            return
        self._stopped = True
        try:
            if graceful:
                self.process.send_signal(signal.SIGTERM)
                self._check_exit()
        finally:
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(timeout=10 * patience())

    def _check_exit(self) -> None:
        try:
            status = self.process.wait(timeout=STOP_S * patience())
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after SIGTERM\n{self.log_tail()}") from None
        assert status == 0, f"exit status {status} after SIGTERM\n{self.log_tail()}"
        deadline = time.monotonic() + 3 * patience()
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, f"left running: {left}"


def processes_marked(mark: str) -> dict[int, str]:
    """The processes whose environment has the mark of a run: pid and command line. Children inherit
    it, but not the embedded database, which is started with an environment of its own.
    """
    needle = f"{MARK}={mark}".encode()
    return _processes(lambda entry: needle in (entry / "environ").read_bytes().split(b"\0"))


def database_processes(data: Path) -> dict[int, str]:
    """The processes of the embedded database below `data`, which all work in its folder: pid and
    command line.
    """
    folder = data / "postgres"
    return _processes(lambda entry: (entry / "cwd").samefile(folder))


def _processes(is_wanted: Callable[[Path], bool]) -> dict[int, str]:
    """The processes whose folder in /proc is wanted."""
    processes = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended
            if entry.name.isdigit() and is_wanted(entry):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if any(words):  # a zombie process has no command line
                    processes[int(entry.name)] = b" ".join(words).decode(errors="replace").strip()
    return processes


@contextmanager
def run_server(
    folder: Path | None = None,
    *,
    workers: int = 1,
    data: Path | None = None,
    env: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
    ready_s: float = READY_S,
    probe: str = "ready",
) -> Iterator[ServeProcess]:
    """Start `orchestrator serve`, wait until it is ready, stop it after the block. Without `data`,
    its data directory is a temporary folder. It may take `ready_s` to read a large folder. With
    the `probe` "live" it is waited for until it answers at all.
    """
    temporary = None if data else Path(tempfile.mkdtemp(prefix="orchestrator-run-"))
    data_dir = data or Path(f"{temporary}/data")
    server = start_server(
        folder,
        workers=workers,
        data=data_dir,
        env=env,
        arguments=arguments,
        ready_s=ready_s,
        probe=probe,
    )
    try:
        yield server
    except BaseException:
        server.stop(graceful=False)
        raise
    else:
        server.stop()
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def start_server(
    folder: Path | None,
    *,
    workers: int,
    data: Path,
    env: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
    ready_s: float = READY_S,
    probe: str = "ready",
) -> ServeProcess:
    """Start `orchestrator serve` and wait until `GET /health/{probe}` answers 200. The caller stops
    it.
    """
    data.mkdir(parents=True, exist_ok=True)
    port, private_port, mark = free_port(), free_port(), secrets.token_hex(8)
    words = [str(COMMAND), "serve", *([str(folder)] if folder else [])]
    words += ["--port", str(port), "--private-port", str(private_port)]
    words += ["--data", str(data), "--workers", str(workers), *arguments]
    environment = {
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
            env={
                **environment,
                # Where running installations are recorded: not among those of the user.
                "XDG_STATE_HOME": str(data.parent / "state"),
                **PATIENT_DATABASE,
                **(env or {}),
                MARK: mark,
            },
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
        _wait_ready(server, ready_s, probe)
    except BaseException:
        server.stop(graceful=False)
        raise
    server.ready_s = time.monotonic() - began
    return server


def _wait_ready(server: ServeProcess, ready_s: float, probe: str) -> None:
    deadline = time.monotonic() + ready_s * patience()
    while time.monotonic() < deadline:
        server.check_alive()
        with suppress(OSError):
            if fetch(f"{server.public}/health/{probe}", timeout_s=5).status == 200:
                return
        time.sleep(0.05)
    raise TimeoutError(f"not ready after {ready_s} s\n{server.log_tail()}")


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 30) -> float:
    """Poll until `condition` is true; returns the seconds waited. Fails with `what` after
    `timeout_s`, on a busy machine later.
    """
    began = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - began
        assert waited_s < timeout_s * patience(), f"not within {waited_s:.0f} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


def assert_log_clean(log: str, *, allowed: tuple[str, ...] = ()) -> None:
    """Assert that the log has no line of level error or critical, no traceback and no task whose
    exception was never retrieved. `allowed` names events that a test causes.
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
