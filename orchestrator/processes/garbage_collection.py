"""Garbage collection of long-running processes: its pauses delay every request."""

from __future__ import annotations

import gc


def collect_before_serving() -> None:
    """Collect what starting left over, exclude all other objects from garbage collection, and
    collect more rarely from now on. It takes 100 ms, so no port may be open.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 5, 400)  # the walk over 50,000 young objects takes 10 ms


def exempt_from_collection() -> None:
    """Exclude all objects built so far from garbage collection: they live as long as the process,
    and each walk over them would delay responses from the hot tier (99th percentile).
    """
    gc.freeze()
