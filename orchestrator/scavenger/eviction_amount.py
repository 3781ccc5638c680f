"""How many bytes the scavenger evicts: arithmetic only, no disk, no clock.

Writers keep the quota themselves when they write. The scavenger evicts ahead of them, so that
writers find room without having to evict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Fill:
    """How full a cache and its file system are, in bytes; a quota of 0 means no quota."""

    used: int
    reserved: int
    quota: int
    free: int
    floor: int
    pinned: int = 0
    """Of `used`, the bytes that must not be evicted."""


def bytes_to_evict(fill: Fill, low_water: float) -> int:
    """Bytes to evict until the used and reserved bytes are at most `low_water` of the quota, and
    `floor` bytes are free.
    """
    to_free = max(_over_quota(fill, low_water), _under_floor(fill), 0)
    return min(to_free, fill.used - fill.pinned)


def binding_limit(fill: Fill, low_water: float) -> Literal["quota", "floor"]:
    """The limit that requires the eviction."""
    return "floor" if _under_floor(fill) > _over_quota(fill, low_water) else "quota"


def _over_quota(fill: Fill, low_water: float) -> int:
    return fill.used + fill.reserved - int(low_water * fill.quota) if fill.quota else 0


def _under_floor(fill: Fill) -> int:
    return fill.floor - fill.free
