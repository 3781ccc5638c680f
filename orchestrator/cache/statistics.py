"""The statistics of a cache, in memory or on disk."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CacheStats:
    """How full a cache is (a disk cache: for all processes of the host), and what this process did
    with it since its start. Figures that a cache does not count are 0.
    """

    name: str
    files: int = 0
    """Files on disk, or entries in memory."""
    bytes: int = 0
    pinned: int = 0
    """Of the bytes, those of pinned files."""
    reserved: int = 0
    """Bytes reserved for files that are being written."""
    quota: int = 0
    free: int = 0
    """Bytes free on the file system."""
    rebuilding: bool = False
    hits: int = 0
    misses: int = 0
    puts: int = 0
    refused: int = 0
    """Not stored: no room within quota and free-space floor, too large, or outdated."""
    failed: int = 0
    """Not stored: the disk or the index could not be written."""
    evicted: int = 0
    """Files removed to make room."""
    evicted_bytes: int = 0
    evicted_age_s: float = 0.0
    """Seconds between the last use and the eviction of the file evicted last."""
    dropped: int = 0
    """Files removed because their asset changed, or because they were damaged."""
