"""Which worker of a lane has decoded which original, so that a picture that takes long to decode is
decoded once, however many parts of it are requested.

An original is decoded as a whole before a part is cut from it. While one worker does that, jobs for
other parts wait for it, even if other workers are idle. If it was quick, any worker may do the next
ones.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from cachetools import LRUCache

_MAX_PICTURES = 1024
_SLOW_S = 0.5


@dataclass(slots=True)
class _Holder:
    worker: int
    slowest_s: float


class PictureHolders:
    """What a lane knows of its pictures. A picture is any hashable value, None for a job that no
    other has to wait for. Holds the last 1,024 pictures.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, int] = {}
        self._holders: LRUCache[Hashable, _Holder] = LRUCache(_MAX_PICTURES)

    def worker_of(self, picture: Hashable) -> int | None:
        """The number of the worker that has decoded the picture, or does it now; None if unknown.
        The worker may have forgotten it since, or may be another process: then it is decoded again.
        """
        running = self._running.get(picture)
        if running is not None:
            return running
        holder = self._holders.get(picture)
        return None if holder is None else holder.worker

    def must_wait(self, picture: Hashable) -> bool:
        """True if a worker runs a job of this picture, and another one would have to decode it
        again for longer than it waits.
        """
        if picture not in self._running:
            return False
        holder = self._holders.get(picture)
        return holder is None or holder.slowest_s > _SLOW_S

    def begin(self, picture: Hashable, worker: int) -> None:
        """A worker begins a job of the picture."""
        if picture is not None:
            self._running.setdefault(picture, worker)

    def end(self, picture: Hashable, worker: int, elapsed_s: float, *, lost: bool) -> None:
        """A worker has ended that job; `lost`: with the process."""
        if picture is None:
            return
        if self._running.get(picture) == worker:
            del self._running[picture]
        if not lost:
            known = self._holders.get(picture)
            slowest_s = max(elapsed_s, known.slowest_s if known else 0.0)
            self._holders[picture] = _Holder(worker, slowest_s)
