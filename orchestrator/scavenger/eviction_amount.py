"""How much to evict: pure arithmetic, no disk, no clock.

Writers keep the quota themselves, at the moment they write; the scavenger works ahead of them, so
that they find room without having to make it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Fill:
    """How full a cache and its file system are, in bytes; a quota of 0 is none."""

    used: int
    reserved: int
    quota: int
    free: int
    floor: int
    pinned: int = 0
    """Of `used`, what may not be evicted."""


def surplus(fill: Fill, low_water: float) -> int:
    """Bytes to evict so that used and reserved are at most `low_water` of the quota, and `floor` is
    free.
    """
    return min(max(_over_quota(fill, low_water), _under_floor(fill), 0), fill.used - fill.pinned)


def bound(fill: Fill, low_water: float) -> Literal["quota", "floor"]:
    """What the surplus is a surplus over."""
    return "floor" if _under_floor(fill) > _over_quota(fill, low_water) else "quota"


def _over_quota(fill: Fill, low_water: float) -> int:
    return fill.used + fill.reserved - int(low_water * fill.quota) if fill.quota else 0


def _under_floor(fill: Fill) -> int:
    return fill.floor - fill.free
