"""The files in which the processes of an installation share their metrics (multi-process mode of
prometheus-client, docs/adr/0008-multi-process-metrics.md).

A file has all its blocks before it is mapped into memory. A write to a mapped page that the disk
has no block for would end the process with SIGBUS. Without room for a file, its values are in
memory that no other process sees.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import multiprocessing
import os
import shutil
from contextlib import suppress
from pathlib import Path

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

log = logging.getLogger(__name__)
MEMORY_DISK = Path("/dev/shm")  # noqa: S108  the folder is checked to be that of this user
_FIRST_BYTES = 64 * 1024
_BYTES_OF_A_PROCESS = 8 * _FIRST_BYTES
"""Twice what the four files of a process have when they are created."""


class AllocatedDict(MmapedDict):
    """A file of the library that is allocated before it is mapped, and grows in the same way."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._is_shared = read_mode or _create(Path(filename))
        if not self._is_shared:
            log.warning("metrics not shared, no room", extra={"path": filename})
            filename = f"/proc/self/fd/{os.memfd_create('metrics')}"
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        if self._is_shared and self._used + len(key.encode()) + 64 > self._capacity:
            try:
                os.posix_fallocate(self._f.fileno(), 0, 2 * self._capacity)
            except OSError:
                self._move_to_memory()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _move_to_memory(self) -> None:
        """Continue without the file, in which other processes see the last values."""
        log.warning("metrics not shared, no room", extra={"path": self._fname})
        memory = os.fdopen(os.memfd_create("metrics"), "r+b")
        memory.write(self._m[: self._used])
        memory.truncate(self._capacity)
        self._m.close()
        self._f.close()
        self._f, self._m = memory, mmap.mmap(memory.fileno(), self._capacity)
        self._is_shared = False


def use_allocated_files() -> None:
    """Make the library share values in allocated files, in multi-process mode. Called once, before
    the first metric is made.

    The files of a supervised process have its name. So a process that is restarted continues the
    counters of the one before, and the number of files does not grow.
    """
    if not values.ValueClass._multiprocess:
        return
    process = multiprocessing.current_process()
    name = str(os.getpid()) if process.name == "MainProcess" else process.name
    values.MmapedDict = AllocatedDict  # type: ignore[attr-defined]  # the library has no other way
    values.ValueClass = values.MultiProcessValue(lambda: name)  # type: ignore[no-untyped-call]


def make_folder(data_dir: Path, processes: int, *, memory_disk: Path = MEMORY_DISK) -> Path:
    """Make the empty folder for the metrics of this many processes: on a file system in memory if
    there is one with room, else below the data directory. Raises OSError.
    """
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    in_memory, on_disk = memory_disk / f"orchestrator-metrics-{digest}", data_dir / "metrics"
    for folder in (in_memory, on_disk):
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # no such file system, or another user has the folder
        status = os.statvfs(memory_disk)
        if status.f_bavail * status.f_frsize >= processes * _BYTES_OF_A_PROCESS:
            in_memory.mkdir(mode=0o700)
            return in_memory
    on_disk.mkdir(parents=True)
    return on_disk


def clear_gauges(process: str, folder: Path) -> None:
    """Remove the values of the gauges of a process that ended. The blocks of the files stay for the
    next process with this name.
    """
    for path in folder.glob(f"gauge_live*_{process}.db"):
        with suppress(OSError), path.open("r+b", buffering=0) as file:
            file.write(bytes(8))  # the number of bytes in use


def _create(path: Path) -> bool:
    """Create the file with its blocks, unless it exists; False if there is no room."""
    if path.exists():
        return True
    fresh = path.with_name(f"{path.name}.new")
    try:
        with fresh.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, _FIRST_BYTES)
        fresh.rename(path)  # a reader never finds an empty file
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        return False
    return True
