"""The functions that a decode worker process runs. `pool` starts them; they raise our errors only.

A worker allows the sandboxed loaders, limits its own memory, gives up access to the network and to
files that it does not need, ignores the signals that its parent handles, and ends when its parent
ends, even if that was killed. asyncio is not imported here.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import Damaged, OrchestratorError, SourceMismatch, TooLarge
from orchestrator.imaging import (
    animation,
    attention,
    pyramid_check,
    pyramid_writer,
    source_writer,
    vips,
)
from orchestrator.imaging import probe as probing
from orchestrator.imaging import render as rendering
from orchestrator.imaging.formats.svg_sanitiser import sanitise
from orchestrator.imaging.formats.svg_text import read_svg
from orchestrator.imaging.jpeg2000.binding import CodestreamError
from orchestrator.imaging.jpeg2000.grok import find_grok
from orchestrator.imaging.open_pictures import OpenPictures
from orchestrator.imaging.probe import Bounds
from orchestrator.imaging.pyramid_check import PyramidFacts
from orchestrator.imaging.recipes import ConversionPolicy, Probe, Recipe
from orchestrator.imaging.render_cost import TooExpensive
from orchestrator.imaging.slow_originals import reason_to_convert
from orchestrator.imaging.source_writer import ThumbnailRequest
from orchestrator.imaging.trial_decode import try_decoding
from orchestrator.imaging.workers import handed_files, sandbox

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_PERTURB = -1, -3, -6
_LOWEST_NICE = 19
_RETAINED_BYTES = 128 * 1024**2
_CONTRADICTION = "The image file is damaged: its parts contradict each other."
_pictures: list[OpenPictures] = []
_limits: list[WorkerLimits] = []
"""The open pictures and the limits of this process. They must be at module level: an executor
passes its tasks no state of their process.
"""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What a worker may use: address space, all open pictures and a single one of them in bytes,
    `nice` added to its parent's, processor cores for one job, `max_cost` of a recipe (None: any),
    `grok_s` seconds that Grok may use for one image (0: it is not used).
    folders (None: any file).
    `is_idle`: it runs, and reads and writes the disk, only while no other process wants to.
    """

    memory: int
    open_pictures: int
    largest_picture: int
    nice: int
    cores: int
    bounds: Bounds
    max_cost: int | None = None
    is_idle: bool = False
    grok_s: float = 0.0
    files: sandbox.FileAccess | None = None


def start(limits: WorkerLimits, files: socket.socket) -> None:
    """Make this process a decode worker, which receives files in memory by the socket. The executor
    calls this as its initializer.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sandbox.confine(limits.files, programs=limits.grok_s > 0)  # before the first thread
    handed_files.receive_from(files)
    threading.Thread(target=_end_with_parent, daemon=True, name="parent-watch").start()
    os.nice(limits.nice)
    if limits.memory:
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _set_up_allocator()
    import numpy  # noqa: F401  # 60 ms, which the first JPEG2000 tile would take longer

    vips.restrict(sandboxed=True)
    _limits[:] = [limits]
    _pictures[:] = [
        OpenPictures(
            limits.open_pictures,
            sandboxed=True,
            max_picture_bytes=limits.largest_picture,
            grok=find_grok(limits.grok_s) if limits.grok_s else None,
        )
    ]
    if limits.is_idle:  # now: on a busy machine the imports above could take minutes
        _run_when_idle()


def report_ready() -> tuple[int, tuple[str, ...]]:
    """The process id of this worker, and what the system does not let us refuse it
    (`sandbox.find_gaps`). It has started when this call returns.
    """
    limits = _limits[0]
    return os.getpid(), sandbox.find_gaps(limits.files, programs=limits.grok_s > 0)


def render(recipe: Recipe) -> bytes:
    """`imaging.render.render` in this process. Raises TooExpensive, FileNotFoundError,
    SourceChanged, TooLarge, Unprocessable.
    """
    with translate_errors(recipe.path):
        return rendering.render(recipe, _pictures[0], _limits[0].max_cost)


def render_together(recipes: list[Recipe]) -> list[bytes | Exception]:
    """Render recipes of one file at one level; for each recipe its bytes or its own error."""
    # An error here is raised again, and returned, when its recipe is rendered alone.
    with suppress(OSError, OrchestratorError), translate_errors(recipes[0].path):
        rendering.decode_together(recipes, _pictures[0])
    return [_render_or_error(recipe) for recipe in recipes]


def _render_or_error(recipe: Recipe) -> bytes | Exception:
    try:
        return render(recipe)
    except PermissionError:  # may be of this process: then it is replaced
        raise
    except (OSError, OrchestratorError, TooExpensive) as error:
        return error


def animate(recipe: Recipe, bounds: Bounds) -> bytes:
    """`imaging.animation.animate` in this process. Raises as `render`."""
    with translate_errors(recipe.path):
        return animation.animate(recipe, bounds)


def find_attention(recipe: Recipe) -> tuple[int, int]:
    """`imaging.attention.find_attention` in this process. Raises as `render`."""
    with translate_errors(recipe.path):
        return attention.find_attention(recipe, _pictures[0], _limits[0].max_cost)


def sanitise_svg(path: str) -> bytes:
    """`svg_sanitiser.sanitise` of the file at `path`, in this process. Raises FileNotFoundError,
    TooLarge, Unprocessable.
    """
    with translate_errors(path):
        return sanitise(read_svg(Path(path)))


def probe(path: str, bounds: Bounds) -> Probe:
    """`imaging.probe.probe` in this process, and a trial decode. Raises FileNotFoundError,
    TooLarge, Unprocessable.
    """
    with translate_errors(path, is_probed=True):
        result = probing.probe(Path(path), bounds)
        try_decoding(Path(path), result)
        reason = reason_to_convert(Path(path), result, _pictures[0].max_bytes)
        return replace(result, needs_conversion=reason)


def convert(
    path: str,
    target: str,
    policy: ConversionPolicy,
    thumbnails: ThumbnailRequest | None,
    limits: WorkerLimits,
) -> tuple[Probe, list[Path]]:
    """`imaging.source_writer.convert` in this process, on `limits.cores`. Raises FileNotFoundError,
    TooLarge, Unprocessable, NoRoom (the disk is full), OSError.
    """
    with translate_errors(path, is_probed=True, target=target), _one_thread_afterwards():
        return source_writer.convert(
            Path(path),
            Path(target),
            policy,
            limits.bounds,
            thumbnails=thumbnails,
            threads=limits.cores,
        )


def write_pyramid(
    path: str, target: str, policy: ConversionPolicy, page: int, limits: WorkerLimits
) -> PyramidFacts:
    """`imaging.pyramid_writer.write_pyramid` in this process, on `limits.cores`. Raises as
    `convert`.
    """
    with translate_errors(path, is_probed=True, target=target), _one_thread_afterwards():
        return pyramid_writer.write_pyramid(
            Path(path), Path(target), policy, limits.bounds, number=page, threads=limits.cores
        )


def check_pyramid(path: str, bounds: Bounds) -> PyramidFacts:
    """`imaging.pyramid_check.check_pyramid` in this process. Raises InvalidInput,
    FileNotFoundError, TooLarge, Unprocessable.
    """
    with translate_errors(path, is_probed=True):
        return pyramid_check.check_pyramid(Path(path), bounds)


def count_pages(path: str, bounds: Bounds) -> int:
    """`imaging.probe.count_pages` in this process. Raises as `probe`."""
    with translate_errors(path, is_probed=True):
        return probing.count_pages(Path(path), bounds)


def write_thumbnails(path: str, request: ThumbnailRequest, limits: WorkerLimits) -> list[Path]:
    """`imaging.source_writer.write_thumbnails` in this process. Raises FileNotFoundError, TooLarge,
    Unprocessable, NoRoom (the disk is full), OSError.
    """
    with translate_errors(path, is_probed=True, target=str(request.folder / "thumbnail")):
        return source_writer.write_thumbnails(Path(path), request, limits.bounds)


@contextmanager
def translate_errors(path: str, *, is_probed: bool = False, target: str = "") -> Iterator[None]:
    """Translate what libvips and OpenJPEG raise for the file at `path` into our errors. Their own
    text stays in this process, as the cause. `is_probed`: the dimensions that were expected come
    from this file, so that other dimensions are a contradiction. A file that cannot be opened, and
    a folder of `target` that cannot be written, are an OSError.
    """
    vips.forget_errors()
    try:
        yield
    except SourceMismatch as error:
        if is_probed:
            raise Damaged(_CONTRADICTION) from error
        raise
    except MemoryError as error:
        raise TooLarge("The image needs more memory than one decode may use.") from error
    except (vips.VipsError, CodestreamError) as error:
        _check_access(path, target)
        raise vips.as_public_error(error, path) from error
    except (ValueError, OverflowError) as error:
        raise Damaged("The image file is damaged and cannot be decoded.") from error


def _check_access(path: str, target: str) -> None:
    """Raise OSError if the file cannot be opened, or nothing can be written beside `target`: that
    is no fault of the picture.
    """
    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    if target:
        attempt = f"{target}.attempt"
        os.close(os.open(attempt, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        Path(attempt).unlink()


@contextmanager
def _one_thread_afterwards() -> Iterator[None]:
    """Let the block use more threads; what this process runs next uses one."""
    try:
        yield
    finally:
        vips.set_threads(1)


def _run_when_idle() -> None:
    """Give this process the lowest priority of Linux. The kernel derives that of its reads and
    writes from it. Where that is forbidden, the lowest `nice` is almost the same.
    """
    os.nice(_LOWEST_NICE)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _set_up_allocator() -> None:
    """Let glibc clear what it allocates, so that no decoder can return the pixels of another
    picture. Measured, that costs 2 % of the processor time of a tile. Blocks of up to 1 KB that the
    thread has just freed, and enlarged blocks, are not cleared.

    Also let glibc reuse the memory that decoders free. To return it and to request it again page by
    page took a third of the time of opening a JPEG2000 file. The retained memory is never more
    than was in use.
    """
    with suppress(OSError, AttributeError):  # not glibc: the default stays
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_PERTURB, 0xFF)  # memory is filled with the complement of this value
        mallopt(_M_MMAP_THRESHOLD, _RETAINED_BYTES // 4)
        mallopt(_M_TRIM_THRESHOLD, _RETAINED_BYTES)


def _end_with_parent() -> None:
    """End this process as soon as its parent has ended, also during a decode."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
