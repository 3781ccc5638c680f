"""thumbor, as its documentation sets it up for production: originals and results in folders, one
process for each core. It is installed from PyPI into a virtual environment of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtests.collection import images_folder
from tests.support.reference_servers import ServerMissingError
from tests.support.serve_process import fetch, free_port

VERSION = "7.8.0"
_START_S = 60
_SETTINGS = """\
LOADER = 'thumbor.loaders.file_loader'
FILE_LOADER_ROOT_PATH = '{originals}'
STORAGE = 'thumbor.storages.no_storage'
RESULT_STORAGE = 'thumbor.result_storages.file_storage'
RESULT_STORAGE_FILE_STORAGE_ROOT_PATH = '{results}'
RESULT_STORAGE_STORES_UNSAFE = True
QUALITY = {quality}
"""


@dataclass(frozen=True)
class Thumbor:
    """A running thumbor: its address and its process."""

    address: str
    pid: int


@contextmanager
def thumbor(originals: Path, work: Path, *, quality: int) -> Iterator[Thumbor]:
    """thumbor for the files of `originals`; its results go below `work`. Raises
    ServerMissingError.
    """
    program = _installed() / "bin" / "thumbor"
    work.mkdir(parents=True)
    settings = work / "thumbor.conf"
    settings.write_text(
        _SETTINGS.format(originals=originals, results=work / "results", quality=quality)
    )
    port = free_port()
    words = [program, "--port", port, "--ip", "127.0.0.1", "--conf", settings,
             "--log-level", "error", "--processes", os.cpu_count() or 1]  # fmt: skip
    with subprocess.Popen([str(word) for word in words]) as process:
        children = []
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_ready(address, process)
            children = psutil.Process(process.pid).children(recursive=True)
            yield Thumbor(address, process.pid)
        finally:
            process.terminate()
            for child in children:
                if child.is_running():
                    child.terminate()


def _installed() -> Path:
    """The virtual environment, made once below the folder of the benchmarks."""
    home = images_folder() / f"thumbor-{VERSION}"
    if not (home / "installed").exists():
        print(f"installing thumbor {VERSION} from PyPI (once) ...", flush=True)
        python = home / "bin" / "python"
        steps = [
            [sys.executable, "-m", "venv", "--clear", str(home)],
            [str(python), "-m", "pip", "install", "--quiet", f"thumbor=={VERSION}"],
        ]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ServerMissingError(f"thumbor cannot be installed: {done.stderr[-200:]}")
        (home / "installed").touch()
    return home


def _wait_ready(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if fetch(f"{address}/healthcheck").status == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise ServerMissingError("thumbor does not start")
