"""What runs inside a decode worker process: module-level functions, started by `pool`, that raise
our errors only.

A worker allows the sandboxed loaders, bounds its own memory, leaves signals to its parent and dies
with it, even if that was killed. Nothing of asyncio is imported here.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import OrchestratorError, TooLarge, Unprocessable
from orchestrator.imaging import probe as probing
from orchestrator.imaging import render as rendering
from orchestrator.imaging import source_writer as conversion
from orchestrator.imaging import vips
from orchestrator.imaging.jpeg2000.reader import CodestreamError
from orchestrator.imaging.open_pictures import Opened
from orchestrator.imaging.probe import Bounds
from orchestrator.imaging.recipes import ConversionPolicy, Probe, Recipe

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 128 * 1024**2
_kept: list[Opened] = []
"""This process's open pictures: the one place for it, since an executor hands its tasks nothing of
their process.
"""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What a worker may use: address space and open pictures in bytes, `nice` added to its
    parent's, cores for one job.
    """

    memory: int
    open_pictures: int
    nice: int
    cores: int
    bounds: Bounds


def start(limits: WorkerLimits) -> None:
    """Make this process a decode worker; the executor's initializer."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True, name="parent-watch").start()
    os.nice(limits.nice)
    if limits.memory:
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _keep_memory()
    vips.restrict(sandboxed=True)
    _kept[:] = [Opened(limits.open_pictures, sandboxed=True)]


def ready() -> int:
    """This worker's process id: it has started."""
    return os.getpid()


def render(recipe: Recipe) -> bytes:
    """`imaging.render.render` here. Raises FileNotFoundError, SourceChanged, TooLarge,
    Unprocessable.
    """
    with translated(recipe.path):
        return rendering.render(recipe, _kept[0])


def render_together(recipes: list[Recipe]) -> list[bytes | Exception]:
    """Recipes of one file at one level: each its picture or its own error."""
    with suppress(OSError, OrchestratorError), translated(recipes[0].path):
        rendering.decode_together(recipes, _kept[0])
    return [_outcome(recipe) for recipe in recipes]


def _outcome(recipe: Recipe) -> bytes | Exception:
    try:
        return render(recipe)
    except (OSError, OrchestratorError) as error:
        return error


def probe(path: str, bounds: Bounds) -> Probe:
    """`imaging.probe.probe` here. Raises FileNotFoundError, TooLarge, Unprocessable."""
    with translated(path):
        return probing.probe(Path(path), bounds)


def convert(
    path: str,
    target: str,
    policy: ConversionPolicy,
    wanted: conversion.Thumbnails | None,
    limits: WorkerLimits,
) -> tuple[Probe, list[Path]]:
    """`imaging.convert.convert` here, on `limits.cores`. Raises FileNotFoundError, TooLarge,
    Unprocessable, OSError.
    """
    try:
        with translated(path):
            return conversion.convert(
                Path(path), Path(target), policy, limits.bounds, wanted=wanted, threads=limits.cores
            )
    finally:
        vips.set_threads(1)


def thumbnails(path: str, wanted: conversion.Thumbnails, limits: WorkerLimits) -> list[Path]:
    """`imaging.convert.thumbnails` here. Raises FileNotFoundError, TooLarge, Unprocessable,
    OSError.
    """
    with translated(path):
        return conversion.thumbnails(Path(path), wanted, limits.bounds)


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn what libvips raises into our errors, with its text as the cause only in this process."""
    try:
        yield
    except MemoryError as error:
        raise TooLarge("The image needs more memory than one decode may use.") from error
    except (vips.VipsError, CodestreamError) as error:
        if not Path(path).exists():
            raise FileNotFoundError(path) from error
        raise vips.broken(error) from error
    except (ValueError, OverflowError) as error:
        raise Unprocessable("The image file is damaged and cannot be decoded.") from error


def _keep_memory() -> None:
    """Let glibc reuse what decoders free: returned and asked back page by page it cost a third of
    the time of opening a JPEG2000 file. What it keeps is bounded by what was in use.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES // 4)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _die_with_parent() -> None:
    """End at once when the parent has gone, in the middle of a decode too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
