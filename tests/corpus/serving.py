"""The work of a corpus run: copy the files, serve them, ask for each, judge each answer."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator.errors import Unprocessable
from orchestrator.imaging import vips
from orchestrator.imaging.formats.file_type import sniff_file
from tests.corpus.outcomes import (
    FAILED,
    REFUSED,
    RIGHT,
    UNASKED,
    UNCOMPARED,
    WRONG,
    Outcome,
    Run,
    Workers,
)
from tests.corpus.questions import Answers, Questions
from tests.corpus.references import Reference, decode
from tests.support.process_table import peak_bytes
from tests.support.serve_process import ServeProcess, run_server

_REFERENCE_TIMEOUT_S = 120
_POLL_S = 1.0
_UNKNOWN = "other"


def list_files(folder: Path, part: str) -> list[Path]:
    """The files below `folder` whose path contains `part`, sorted; equal files once."""
    files: dict[tuple[int, int], Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and part in str(path.relative_to(folder)):
            files.setdefault((path.stat().st_size, hash(path.read_bytes())), path)
    return sorted(files.values())


def run_corpus(
    folder: Path, files: list[Path], policy: str, time_limit_s: float, *, console: Console
) -> Run:
    """Serve copies of `files` under `policy` and ask for each. Each format has a server of its own,
    so that the workers that ended, and their memory, belong to it.
    """
    began = time.monotonic()
    deadline = began + time_limit_s
    by_kind: dict[str, list[Path]] = {}
    for path in files:
        by_kind.setdefault(_kind(path), []).append(path)
    outcomes: list[Outcome] = []
    workers: dict[str, Workers] = {}
    with _progress(console) as progress:
        for kind, of_kind in sorted(by_kind.items()):
            found, workers[kind] = _run_format(folder, of_kind, policy, deadline, progress)
            outcomes += found
    versions = {"libvips": vips.capabilities().version, "Pillow": Image.__version__}
    return Run(policy, tuple(outcomes), workers, time.monotonic() - began, versions)


def _run_format(
    folder: Path, files: list[Path], policy: str, deadline: float, progress: Progress
) -> tuple[list[Outcome], Workers]:
    with tempfile.TemporaryDirectory(prefix="corpus-") as scratch:
        names = _copy(files, Path(scratch, "files"))
        environment = {"ORCHESTRATOR_INGEST__FOLDER_POLICY": policy}
        ready_s = max(1.0, deadline - time.monotonic())
        with run_server(
            Path(scratch, "files"), data=Path(scratch, "data"), env=environment, ready_s=ready_s
        ) as server:
            memory = _MemoryWatch(server)
            with memory.running():
                _wait_converted(server, deadline, progress)
                slack = 1 if policy == "use-original" else 2
                outcomes = _ask_all(server, names, folder, Questions(server.public, slack),
                                    deadline=deadline, progress=progress)  # fmt: skip
            deaths = len(re.findall(r'"event": "decode worker ended"', server.log()))
            if os.environ.get("CORPUS_LOG"):
                with Path(os.environ["CORPUS_LOG"]).open("a") as log:
                    log.write(server.log())
    return outcomes, Workers(deaths, memory.peak)


def _copy(files: list[Path], target: Path) -> dict[str, Path]:
    """Link or copy the files with names that do not collide; name without extension -> original."""
    names = {}
    for number, path in enumerate(files):
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)[:60]
        name = f"{number // 1000:03d}-{number % 1000:03d}-{stem}"
        suffix = re.sub(r"[^A-Za-z0-9.]", "", path.suffix)
        target.mkdir(parents=True, exist_ok=True)
        copy = target / f"{name}{suffix}"
        try:
            os.link(path, copy)
        except OSError:
            shutil.copyfile(path, copy)
        names[name] = path
    return names


def _wait_converted(server: ServeProcess, deadline: float, progress: Progress) -> None:
    task = progress.add_task("converting", total=None)
    while '"event": "folder registered"' not in server.log():
        server.check_alive()
        if time.monotonic() > deadline:
            return
        time.sleep(_POLL_S)
    while time.monotonic() < deadline:
        server.check_alive()
        images = server.images()
        busy = sum(each["state"] not in ("ready", "failed") for each in images)
        progress.update(task, total=len(images), completed=len(images) - busy)
        if not busy:
            return
        time.sleep(_POLL_S + len(images) / 500)


def _ask_all(
    server: ServeProcess,
    names: dict[str, Path],
    folder: Path,
    questions: Questions,
    *,
    deadline: float,
    progress: Progress,
) -> list[Outcome]:
    task = progress.add_task("asking", total=len(names))
    refusals = _refusals(server.log())
    with _References() as references, ThreadPoolExecutor(2) as threads:

        def ask(name: str) -> Outcome:
            path = names[name]
            shown, kind = str(path.relative_to(folder)), _kind(path)
            try:
                if time.monotonic() > deadline:
                    return Outcome(shown, kind, UNASKED)
                reference = references.of(path, kind)
                answers = questions.ask(f"1%2F1%2F{name}", reference.pixels, kind)
                return _judge(shown, kind, reference, answers, refusals.get(name, ("", "")))
            finally:
                progress.advance(task)

        return list(threads.map(ask, names))


def _judge(
    path: str, kind: str, reference: Reference, answers: Answers, logged: tuple[str, str]
) -> Outcome:
    code, reason = answers.refused, answers.reason
    if answers.server_errors:
        verdict, reason = FAILED, "; ".join(answers.server_errors[:2])
    elif answers.faults:
        verdict, reason = WRONG, "; ".join(answers.faults[:3])
    elif answers.refused:
        verdict = REFUSED
        if code == "http_404":  # it was not registered: the log has the reason
            code, reason = logged if logged[0] else ("not_an_image", "")
    else:
        verdict = RIGHT if answers.compared else UNCOMPARED
    return Outcome(
        path, kind, verdict, code, reason, reference.decoder, reference.pixels is not None,
        answers.is_info_refused, round(answers.slowest_s, 2), answers.slowest,
    )  # fmt: skip


def _refusals(log: str) -> dict[str, tuple[str, str]]:
    """(code, reason) of each picture that was not registered, by name."""
    found = {}
    for line in log.splitlines():
        with suppress(ValueError, AttributeError):
            entry = json.loads(line)
            if entry.get("event") == "picture not registered":
                name = entry["asset"].split("/", 2)[2]
                found[name] = (entry.get("code", "refused"), entry.get("reason", ""))
    return found


def _kind(path: Path) -> str:
    try:
        return sniff_file(path)
    except (Unprocessable, OSError):
        return _UNKNOWN


class _References:
    """Decodes references in a process, so that a decoder that crashes or hangs ends only itself."""

    def __init__(self) -> None:
        self._executor = self._start()
        self._lock = threading.Lock()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def __enter__(self) -> _References:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def of(self, path: Path, kind: str) -> Reference:
        """The reference of one file; without pixels if the decoder died or took too long."""
        if kind == _UNKNOWN:
            return Reference(None, "unknown format")
        with self._lock:
            try:
                return self._executor.submit(decode, path, kind).result(_REFERENCE_TIMEOUT_S)
            except (BrokenProcessPool, NotDone) as error:
                self._stop()
                self._executor = self._start()
                return Reference(None, f"the decoder failed: {type(error).__name__}")

    def _stop(self) -> None:
        processes: dict[int, Any] = self._executor._processes or {}
        for process in list(processes.values()):
            process.kill()
        self._executor.shutdown(wait=False, cancel_futures=True)


class _MemoryWatch:
    """The largest resident memory that a decode worker had, read from /proc."""

    def __init__(self, server: ServeProcess) -> None:
        self._server = server
        self._end = threading.Event()
        self.peak = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch during the block."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _watch(self) -> None:
        while not self._end.wait(_POLL_S):
            for pid, command in self._server.processes().items():
                if "spawn_main" in command:
                    self.peak = max(self.peak, peak_bytes(pid))


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
