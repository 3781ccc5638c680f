"""How a disk cache behaves, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DiskOptions:
    """How one disk cache behaves; the fields mean what the settings of `cache` mean."""

    quota: int
    floor: int = 0
    max_entry: int = 256 * 1024**2
    inline_read: int = 256 * 1024
    use_flush_s: float = 2.0
    lease_s: float = 30.0
    shares: tuple[tuple[str, int], ...] = ()
    eviction: str = "lru"


@dataclass(frozen=True, slots=True)
class DiskStats:
    """Fill of the cache (all processes), and what this process has done with it."""

    name: str
    files: int
    bytes: int
    pinned: int
    """Of the bytes, those of pinned files."""
    reserved: int
    quota: int
    free: int
    """Bytes free on the file system."""
    rebuilding: bool
    hits: int
    misses: int
    puts: int
    refused: int
    failed: int
    evicted: int
    evicted_bytes: int
    evicted_age_s: float
    """Seconds between last use and eviction, of what was evicted last."""
