"""How many pixels the tiles of each image have drawn from its source lately, for all processes of
the host.

The counts are in one small file that every process maps into memory, so counting takes no lock and
no system call. Two processes that count the same image at the same instant may lose one count. An
image that finds no place replaces the one whose window began first.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

log = logging.getLogger(__name__)
_ENTRY = struct.Struct("=Qdd")
"""(image, beginning of its window in seconds since 1970, pixels)."""
_PLACES = 8
"""An image can be in so many places, which are beside each other."""
_ROWS = 2048
_BYTES = _ROWS * _PLACES * _ENTRY.size


class TileDemand:
    """Pixels drawn from each image within a window of time."""

    def __init__(
        self, path: Path, window_s: float, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        """`path` is the file; `wall_clock` must be the same in all processes. If the file cannot be
        used, this process counts for itself.
        """
        self._window_s = window_s
        self._wall_clock = wall_clock
        self._memory = _map_file(path)

    def add(self, image: str, pixels: float) -> float:
        """Count `pixels` of `image`. The pixels that were counted for it in the present window."""
        now = self._wall_clock()
        digest = int.from_bytes(blake2b(image.encode(), digest_size=8).digest(), "little")
        first = digest % _ROWS * _PLACES * _ENTRY.size
        oldest, chosen = float("inf"), first
        for offset in range(first, first + _PLACES * _ENTRY.size, _ENTRY.size):
            known, began, counted = _ENTRY.unpack_from(self._memory, offset)
            # A window from the future is one from before the clock was set back.
            is_over = not 0 <= now - began < self._window_s
            if known == digest and not is_over:
                _ENTRY.pack_into(self._memory, offset, digest, began, counted + pixels)
                return float(counted + pixels)
            if known == digest or is_over:
                began = float("-inf")
            if began < oldest:
                oldest, chosen = began, offset
        _ENTRY.pack_into(self._memory, chosen, digest, now, pixels)
        return pixels


def _map_file(path: Path) -> mmap.mmap:
    """The file, created if there is none. It has all its blocks before it is mapped: a write to a
    page that the disk has no block for ends the process (SIGBUS).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, _BYTES)
            return mmap.mmap(descriptor, _BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("demand not shared", extra={"path": str(path), "error": type(error).__name__})
        return mmap.mmap(-1, _BYTES)
