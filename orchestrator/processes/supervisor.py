"""Runs the processes of one installation: N serve processes sharing the public port and one
housekeeping process, or a single process that is both.

Children are spawned, never forked (docs/adr/0004-threads-and-processes.md), restarted with
back-off when they die, drained on SIGTERM or SIGINT, and never outlive this process. The invariant:
when `run` returns, nothing that it started is left running.
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

from orchestrator import metrics
from orchestrator.backoff import backoff_s
from orchestrator.errors import Conflict
from orchestrator.settings import Settings
from orchestrator.web.listen_socket import open_listen_socket

log = logging.getLogger(__name__)

ENTRY = "orchestrator.processes.roles:run_process"
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PR_SET_PDEATHSIG = 1
_ORDERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits; seconds."""

    young_s: float = 5.0
    """A process that dies younger never really started."""
    first_deaths: int = 5
    """So many deaths in a row of a process that never lived longer end the whole: it cannot start.
    """
    backoff_s: float = 0.2
    """Wait before the first restart; doubled with each death in a row, and jittered."""
    longest_backoff_s: float = 30.0
    kill_after_s: float = 3.0
    """Beyond `server.drain_s`, a process that has not ended is killed."""


@dataclass(slots=True)
class _Child:
    """One place among the processes, filled anew when its process dies."""

    role: str
    index: int
    process: SpawnProcess | None = None
    started: float = 0.0
    due: float = 0.0
    """When it is to be started (again), while it has no process."""
    deaths: int = 0
    """In a row, each before the process was `young_s` old."""
    lived: bool = False


def run(settings: Settings, entry: str = ENTRY) -> int:
    """Serve until told to end, over the configured database or the embedded one; the exit status.

    Raises Conflict where the data directory is in use, CatalogUnavailable.
    `entry` is `module:function`, called as `function(settings, role, index)` in each process.
    """
    # Late: children import this module, too, and never start a database.
    from orchestrator.catalog.embedded.database import database

    _raise_open_files()
    with exclusive(settings.data_dir):
        check_ports(settings)
        with database(settings, watched=True) as reachable:
            return _serve(reachable, entry)


def _raise_open_files() -> None:
    """As many descriptors as we are allowed, for every process we start: a login shell's 1,024 are
    fewer than the connections we take.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _serve(settings: Settings, entry: str) -> int:
    if settings.server.workers == 1:
        resolve(entry)(settings, "all", 0)
        return 0
    return Supervisor(settings, entry).run()


def check_ports(settings: Settings) -> None:
    """Make sure that nobody listens where we shall. Raises Conflict.

    Needed because SO_REUSEPORT would let two installations share a port without either noticing.
    """
    server = settings.server
    for host, port, option in (
        (server.host, server.port, "--port"),
        (server.private_host, server.private_port, "--private-port"),
    ):
        try:
            open_listen_socket(host, port, shared=False).close()
        except Conflict as error:
            raise Conflict(f"{error.public} Choose another one with {option}.") from error


@contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for this instance alone. Raises Conflict where another one has it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "instance.lock").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise Conflict(
                f"{data_dir} is in use by process {holder}. "
                "Stop it, or give this instance a directory of its own with --data."
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
    """The parent of all processes. Has one thread and no event loop: it waits for deaths and
    orders.
    """

    def __init__(
        self, settings: Settings, entry: str = ENTRY, patience: Patience | None = None
    ) -> None:
        self._settings = settings
        self._entry = entry
        self._patience = patience or Patience()
        self._spawn = multiprocessing.get_context("spawn")
        self._metrics = settings.data_dir / "metrics"
        roles = [("housekeeping", 0), *(("serve", n) for n in range(settings.server.workers))]
        self._children = [_Child(role, index) for role, index in roles]
        self._orders: list[int] = []
        self._kill_at = float("inf")
        self._status = 0

    def run(self) -> int:
        """Keep all processes running until SIGTERM or SIGINT; 0, or 1 where one cannot start."""
        shutil.rmtree(self._metrics, ignore_errors=True)
        self._metrics.mkdir(parents=True)
        # Read by the metrics library when a child first imports it; children inherit it.
        os.environ[METRICS_VARIABLE] = str(self._metrics)
        with self._listening() as orders:
            try:
                while self._step(orders):
                    pass
            finally:
                self._kill_all()
                os.environ.pop(METRICS_VARIABLE, None)
        log.info("supervisor ended", extra={"status": self._status})
        return self._status

    @property
    def _stopping(self) -> bool:
        return self._kill_at != float("inf")

    def _step(self, orders: socket.socket) -> bool:
        """Wait for something to happen and see to it; False once all is over."""
        now = time.monotonic()
        if not self._stopping:
            self._start_due(now)
        elif now >= self._kill_at:
            self._kill_all()
        running = {child.process.sentinel: child for child in self._children if child.process}
        if self._stopping and not running:
            return False
        for ready in wait([orders, *running], timeout=self._until_due(now)):
            if isinstance(ready, int):
                self._bury(running[ready])
        with suppress(BlockingIOError):
            orders.recv(4096)
        while self._orders:
            self._obey(self._orders.pop(0))
        return True

    def _start_due(self, now: float) -> None:
        for child in self._children:
            if child.process is None and child.due <= now:
                self._start(child)

    def _until_due(self, now: float) -> float | None:
        if self._stopping:
            return max(0.05, self._kill_at - now)
        due = [child.due for child in self._children if child.process is None]
        return max(0.0, min(due) - now) if due else None

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

    def _bury(self, child: _Child) -> None:
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
        if process.pid is not None:
            metrics.forget_process(process.pid, self._metrics)
        process.close()
        child.process = None
        if self._stopping:
            log.info("process ended", extra=fields)
            return
        log.warning("process died, starting another", extra=fields)
        self._plan_restart(child, age_s)

    def _plan_restart(self, child: _Child, age_s: float) -> None:
        patience = self._patience
        if age_s >= patience.young_s:
            child.lived, child.deaths = True, 0
        else:
            child.deaths += 1
        if not child.lived and child.deaths >= patience.first_deaths:
            log.error("process cannot start, giving up", extra={"role": child.role})
            self._status = 1
            self._stop()
            return
        delay_s = backoff_s(
            child.deaths + 1, first_s=patience.backoff_s, longest_s=patience.longest_backoff_s
        )
        child.due = time.monotonic() + delay_s

    def _obey(self, order: int) -> None:
        if order == signal.SIGHUP:
            self._tell(signal.SIGHUP)
        elif self._stopping:
            log.warning("told twice to end, not waiting any longer")
            self._kill_all()
        else:
            log.info("draining", extra={"signal": signal.Signals(order).name})
            self._stop()

    def _stop(self) -> None:
        """Ask every process to drain, and set the time when it is killed."""
        drain_s = self._settings.server.drain_s + self._patience.kill_after_s
        self._kill_at = time.monotonic() + drain_s
        self._tell(signal.SIGTERM)

    def _tell(self, order: signal.Signals) -> None:
        for child in self._children:
            if child.process is not None and child.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(child.process.pid, order)

    def _kill_all(self) -> None:
        for child in self._children:
            if child.process is not None:
                log.warning("process killed", extra={"role": child.role, "index": child.index})
                child.process.kill()
                child.process.join()
                child.process.close()
                child.process = None

    @contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        """Collect signals in `_orders`, and wake the loop through the socket given."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        before = {
            order: signal.signal(order, lambda number, _: self._orders.append(number))
            for order in _ORDERS
        }
        woken = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(woken)
            for order, handler in before.items():
                signal.signal(order, handler)
            ours.close()
            theirs.close()


def _child_main(entry: str, settings: Settings, role: str, index: int, parent: int) -> None:
    """What a spawned process runs: bind its life to the parent's, then become its role."""
    # Until the role has handlers of its own, a signal to the whole terminal group is the parent's.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    resolve(entry)(settings, role, index)
