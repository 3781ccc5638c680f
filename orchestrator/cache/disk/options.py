"""The options of a disk cache."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DiskOptions:
    """The options of one disk cache; each field has the meaning of its setting in `cache`."""

    quota: int
    floor: int = 0
    max_entry: int = 256 * 1024**2
    inline_read: int = 256 * 1024
    use_flush_s: float = 2.0
    lease_s: float = 30.0
    shares: tuple[tuple[str, int], ...] = ()
    eviction: str = "lru"
