"""Runs the processes of one installation: N serve processes that share the public port and one
housekeeping process, or a single process that has both roles.

Children are spawned, never forked (docs/adr/0004-threads-and-processes.md). The supervisor restarts
a child that dies, with back-off, and drains all children on SIGTERM or SIGINT. The invariant: when
`run` returns, no process that it started is running.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from orchestrator.backoff import backoff_s
from orchestrator.errors import Conflict, StateConflict
from orchestrator.metric_files import clear_gauges, make_folder
from orchestrator.processes.data_directory import check_writable
from orchestrator.processes.running_installations import (
    installation_of,
    recorded,
    records_folder,
)
from orchestrator.processes.stop_signals import STOP_SIGNALS, ignore_stop, was_stopped
from orchestrator.progress import forget_registration
from orchestrator.settings import Settings
from orchestrator.web.listen_socket import open_listen_socket

log = logging.getLogger(__name__)

ENTRY = "orchestrator.processes.roles:run_process"
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When the supervisor restarts processes, kills them and exits; times in seconds."""

    min_life_s: float = 5.0
    """A process that dies earlier counts as a failed start."""
    max_failed_starts: int = 5
    """The supervisor exits with status 1 when a process that never lived longer than `min_life_s`
    fails to start this many times in a row.
    """
    backoff_s: float = 0.2
    """Delay before the first restart; doubled with each failed start in a row, with jitter."""
    longest_backoff_s: float = 30.0
    kill_after_s: float = 3.0
    """A process that has not ended this long after `server.drain_s` is killed."""


@dataclass(slots=True)
class _Child:
    """One role of the installation, and the process that has it now."""

    role: str
    index: int
    process: SpawnProcess | None = None
    started: float = 0.0
    start_at: float = 0.0
    """When to start a process; of use while there is none."""
    failed_starts: int = 0
    """In a row."""
    has_lived: bool = False
    """True if some process of this role lived for `min_life_s`."""


def run(settings: Settings, entry: str = ENTRY) -> int:
    """Serve until SIGTERM or SIGINT, with the configured database or the embedded one; returns the
    exit status.

    `entry` is `module:function`, called as `function(settings, role, index)` in each process.
    Raises StorageUnavailable if the data directory cannot be written, Conflict if it or a port is
    in use, CatalogUnavailable.
    """
    # Imported here: children import this module, too, and never start a database.
    from orchestrator.catalog.embedded.database import database

    _raise_open_files_limit()
    check_writable(settings.data_dir)
    records = records_folder(os.environ)
    with lock_data_dir(settings.data_dir), recorded(installation_of(settings), records):
        check_ports(settings)
        forget_registration(settings.data_dir)
        with database(settings, watched=True) as reachable:
            try:
                return _run_processes(reachable, entry)
            finally:
                ignore_stop()


def _raise_open_files_limit() -> None:
    """Raise the limit of open files to the hard limit, for every child: a login shell's 1,024 are
    fewer than `server.max_connections`.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run_processes(settings: Settings, entry: str) -> int:
    if settings.server.workers == 1:
        resolve(entry)(settings, "all", 0)
        return 0
    return Supervisor(settings, entry).run()


def check_ports(settings: Settings) -> None:
    """Check that no other process listens on the ports of these settings. Raises Conflict.

    Needed because SO_REUSEPORT lets two installations share a port, and neither would notice.
    """
    server = settings.server
    for host, port, option in (
        (server.host, server.port, "--port"),
        (server.private_host, server.private_port, "--private-port"),
    ):
        try:
            open_listen_socket(host, port, shared=False).close()
        except Conflict as error:
            raise StateConflict(f"{error.public} Choose another port with {option}.") from error


@contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[None]:
    """Lock the data directory for this instance. Raises Conflict if another instance has it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "instance.lock").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise StateConflict(
                f"{data_dir} is in use by process {holder}. "
                "Stop that process, or choose another directory with --data."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def resolve(entry: str) -> Callable[[Settings, str, int], object]:
    """The function that `module:function` names."""
    module, _, name = entry.partition(":")
    function: Callable[[Settings, str, int], object] = getattr(
        importlib.import_module(module), name
    )
    return function


class Supervisor:
    """The parent of all processes. It has one thread and no event loop: it waits for signals and
    for children to die.
    """

    def __init__(
        self, settings: Settings, entry: str = ENTRY, policy: RestartPolicy | None = None
    ) -> None:
        self._settings = settings
        self._entry = entry
        self._policy = policy or RestartPolicy()
        self._spawn = multiprocessing.get_context("spawn")
        roles = [("housekeeping", 0), *(("serve", n) for n in range(settings.server.workers))]
        self._children = [_Child(role, index) for role, index in roles]
        self._signals: list[int] = []
        self._kill_at = float("inf")
        self._status = 0

    def run(self) -> int:
        """Keep all processes running until SIGTERM or SIGINT. Returns 0, or 1 if a process cannot
        start.
        """
        folder = make_folder(self._settings.data_dir, len(self._children))
        # The metrics library reads it when a child first imports it; children inherit it.
        os.environ[METRICS_VARIABLE] = str(folder)
        with self._catch_signals() as wakeup:
            try:
                while self._handle_events(wakeup):
                    pass
            finally:
                self._kill_all()
                os.environ.pop(METRICS_VARIABLE, None)
                shutil.rmtree(folder, ignore_errors=True)
        log.info("supervisor ended", extra={"status": self._status})
        return self._status

    @property
    def _is_stopping(self) -> bool:
        return self._kill_at != float("inf")

    def _handle_events(self, wakeup: socket.socket) -> bool:
        """Wait until a child dies, a signal arrives or a time is reached, and act on it. Returns
        False when all processes have ended.
        """
        now = time.monotonic()
        if not self._is_stopping:
            self._start_due(now)
        elif now >= self._kill_at:
            self._kill_all()
        running = {child.process.sentinel: child for child in self._children if child.process}
        if self._is_stopping and not running:
            return False
        for ready in wait([wakeup, *running], timeout=self._wait_timeout_s(now)):
            if isinstance(ready, int):
                self._reap(running[ready])
        with suppress(BlockingIOError):
            wakeup.recv(4096)
        while self._signals:
            self._handle_signal(self._signals.pop(0))
        return True

    def _start_due(self, now: float) -> None:
        for child in self._children:
            if child.process is None and child.start_at <= now:
                self._start(child)

    def _wait_timeout_s(self, now: float) -> float | None:
        if self._is_stopping:
            return max(0.05, self._kill_at - now)
        starts = [child.start_at for child in self._children if child.process is None]
        return max(0.0, min(starts) - now) if starts else None

    def _start(self, child: _Child) -> None:
        process = self._spawn.Process(
            target=_child_main,
            args=(self._entry, self._settings, child.role, child.index, os.getpid()),
            name=f"{child.role}-{child.index}",
        )
        process.start()
        child.process, child.started = process, time.monotonic()
        log.info(
            "process started",
            extra={"role": child.role, "index": child.index, "child": process.pid},
        )

    def _reap(self, child: _Child) -> None:
        """Release what an ended process held; plan its restart unless all processes stop."""
        process = child.process
        if process is None:
            return
        process.join()
        age_s = time.monotonic() - child.started
        fields = {
            "role": child.role,
            "index": child.index,
            "child": process.pid,
            "status": process.exitcode,
            "age_s": round(age_s, 1),
        }
        clear_gauges(process.name, Path(os.environ[METRICS_VARIABLE]))
        process.close()
        child.process = None
        if self._is_stopping:
            log.info("process ended", extra=fields)
            return
        log.warning("process died, restarting it", extra=fields)
        self._plan_restart(child, age_s)

    def _plan_restart(self, child: _Child, age_s: float) -> None:
        policy = self._policy
        if age_s >= policy.min_life_s:
            child.has_lived, child.failed_starts = True, 0
        else:
            child.failed_starts += 1
        if not child.has_lived and child.failed_starts >= policy.max_failed_starts:
            log.error(
                "process cannot start, stopping",
                extra={"role": child.role, "failed_starts": child.failed_starts},
            )
            self._status = 1
            self._stop()
            return
        delay_s = backoff_s(
            child.failed_starts + 1, first_s=policy.backoff_s, longest_s=policy.longest_backoff_s
        )
        child.start_at = time.monotonic() + delay_s

    def _handle_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._send_to_all(signal.SIGHUP)
        elif self._is_stopping:
            log.warning("second signal received, killing processes")
            self._kill_all()
        else:
            log.info("draining", extra={"signal": signal.Signals(number).name})
            self._stop()

    def _stop(self) -> None:
        """Ask every process to drain, and set the time at which the rest is killed."""
        drain_s = self._settings.server.drain_s + self._policy.kill_after_s
        self._kill_at = time.monotonic() + drain_s
        self._send_to_all(signal.SIGTERM)

    def _send_to_all(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.process is not None and child.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(child.process.pid, number)

    def _kill_all(self) -> None:
        for child in self._children:
            if child.process is not None:
                log.warning("process killed", extra={"role": child.role, "index": child.index})
                child.process.kill()
                child.process.join()
                child.process.close()
                child.process = None

    @contextmanager
    def _catch_signals(self) -> Iterator[socket.socket]:
        """Collect signals in `_signals`. The socket becomes readable when one arrives, which ends
        the wait for children.
        """
        receiver, sender = socket.socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        previous_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        previous_handlers = {
            number: signal.signal(number, lambda received, _: self._signals.append(received))
            for number in STOP_SIGNALS
        }
        if was_stopped():
            self._signals.append(signal.SIGTERM)
            sender.send(b"\0")
        try:
            yield receiver
        finally:
            for number, handler in previous_handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous_fd)
            receiver.close()
            sender.close()


def _child_main(entry: str, settings: Settings, role: str, index: int, parent: int) -> None:
    """Run a role in a spawned process. The kernel kills the process when its parent dies."""
    # Until the role has set its own handlers, a signal to the whole terminal group is for the
    # parent only.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    resolve(entry)(settings, role, index)
