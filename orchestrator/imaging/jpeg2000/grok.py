"""Grok, an optional program that decodes some whole JPEG2000 images in less time than OpenJPEG.

Its licence (AGPL) does not allow us to link it, so it only ever runs as a process of its own, with
the limits of the decode worker that starts it. It decodes what it gives the same samples of: 8
bits, reversible, in one style. It gets the bare codestream, so it converts no colours. Where it
fails, OpenJPEG decodes.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.imaging.jpeg2000.channels import compose_pixels
from orchestrator.imaging.jpeg2000.codestream import CODING_BYTES, Codestream
from orchestrator.imaging.jpeg2000.coding_style import COD, parse_coding_style
from orchestrator.imaging.jpeg2000.jp2_layout import Jp2Layout
from orchestrator.imaging.open_memory import is_memory_path
from orchestrator.model import Dimensions

log = logging.getLogger(__name__)

_PROGRAM = "grk_decompress"
_GUARD = "setpriv"
"""Starts the program so that it ends with the decode worker."""
_MIN_PIXELS = 4_000_000
"""Below this size the start of a process and the copies cost more than Grok saves."""
_BANDS = 3
_MAX_PPM_HEADER = 256
_HEADER = re.compile(rb"P6\n(?:#[^\n]*\n)*(\d+) (\d+)\n(\d+)\n")
_REVERSIBLE = b"\x01"
_REGION_OF_INTEREST = 0xFF5E
_VERSION_TIME_S = 10.0


@dataclass(frozen=True, slots=True)
class Grok:
    """The installed program. One decode may use `time_s` seconds, of processor time and of time."""

    command: tuple[str, ...]
    time_s: float

    def decode(self, layout: Jp2Layout, path: str, reduction: int, size: Dimensions) -> Any | None:
        """The whole image of the file at `reduction`, of `size`, in declared form; None if Grok is
        not used for it or fails. Raises OSError if the file cannot be read.
        """
        if size[0] * size[1] < _MIN_PIXELS or is_memory_path(path) or not _is_suitable(layout):
            return None
        with ExitStack() as stack:
            codestream = _copy_codestream(Path(path), layout, stack)
            output = _open_memory("pixels", stack)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="grok-")))
            target = folder / "pixels.ppm"  # the program chooses the format by the name
            target.symlink_to(f"/proc/self/fd/{output}")
            words = ["-i", f"/proc/self/fd/{codestream}", "-o", str(target)]
            words += ["-r", str(reduction), "-H", "1"]
            max_bytes = size[0] * size[1] * _BANDS + _MAX_PPM_HEADER
            if not self._run(words, (codestream, output), max_bytes):
                return None
            pixels = _read_pixels(output, size)
        if pixels is None:
            log.warning("grok failed", extra={"reason": "unexpected output"})
            return None
        return compose_pixels(pixels, size, layout.header.plan)

    def _run(self, words: list[str], files: tuple[int, ...], max_bytes: int) -> bool:
        """Run the program. It inherits address space and priority of this process."""
        with subprocess.Popen(  # noqa: S603  no shell; the program is found once, by its name
            [*self.command, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=files,
        ) as process:
            try:
                seconds = max(1, round(self.time_s))
                resource.prlimit(process.pid, resource.RLIMIT_CPU, (seconds, seconds))
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
                status = process.wait(self.time_s)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                process.kill()
                status = process.wait()
        if status:
            log.warning("grok failed", extra={"status": status})
        return status == 0


def find_grok(time_s: float) -> Grok | None:
    """The installed program, with this limit of time; None if it is not installed."""
    program, guard = shutil.which(_PROGRAM), shutil.which(_GUARD)
    if program is None or guard is None:
        return None
    return Grok((guard, "--pdeathsig", "KILL", program), time_s)


def grok_version() -> str | None:
    """The version of the installed program; None if it is not installed or does not run."""
    grok = find_grok(_VERSION_TIME_S)
    if grok is None:
        return None
    try:
        answer = subprocess.run(  # noqa: S603  no shell; the program is found by its name
            [*grok.command, "-version"], capture_output=True, timeout=grok.time_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(rb"\d+\.\d+\.\d+", answer.stdout + answer.stderr)
    return found[0].decode() if found else None


def _is_suitable(layout: Jp2Layout) -> bool:
    """True if Grok returns exactly the samples of OpenJPEG, and these are the pixels."""
    stream, plan = layout.stream, layout.header.plan
    numbers = [channel.component for channel in plan.colours]
    return (
        plan.is_plain
        and numbers == list(range(len(stream.components)))
        and len(numbers) == _BANDS  # Grok 10.0 fails for reduced resolutions of one component
        and stream.subsampling == (1, 1)
        and (*stream.area[:2], *stream.tile_origin) == (0, 0, 0, 0)
        and layout.index.is_whole
        and _is_reversible(stream)
    )


def _is_reversible(stream: Codestream) -> bool:
    """True if the wavelet has integers only: the results of others are rounded differently."""
    if parse_coding_style(stream) is None:
        return False
    bodies = [body for marker, body in stream.segments if marker == COD]
    has_regions = any(marker == _REGION_OF_INTEREST for marker, _ in stream.segments)
    return bodies[0][CODING_BYTES - 1 : CODING_BYTES] == _REVERSIBLE and not has_regions


def _copy_codestream(path: Path, layout: Jp2Layout, stack: ExitStack) -> int:
    """A file in memory with the codestream, without the boxes around it."""
    number = _open_memory("codestream", stack)
    with path.open("rb", buffering=0) as file:
        at, end = layout.stream.start, os.fstat(file.fileno()).st_size
        end = min(layout.header.boxes.end or end, end)
        while at < end:
            copied = os.sendfile(number, file.fileno(), at, end - at)
            if not copied:
                break
            at += copied
    return number


def _open_memory(name: str, stack: ExitStack) -> int:
    number = os.memfd_create(name)
    stack.callback(os.close, number)
    return number


def _read_pixels(file: int, size: Dimensions) -> bytes | None:
    """The samples of a PPM file, row by row; None if it is not exactly of this form."""
    found = _HEADER.match(os.pread(file, _MAX_PPM_HEADER, 0))
    length = size[0] * size[1] * _BANDS
    expected = (*(b"%d" % edge for edge in size), b"255")
    if found is None or found.groups() != expected:
        return None
    if os.fstat(file).st_size != found.end() + length:
        return None
    body = os.pread(file, length, found.end())
    return body if len(body) == length else None
