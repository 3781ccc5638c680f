"""The arguments of ImageMagick's `convert` that say how a resized version is made: the subset that
`RESIZING_CONFIG` may have. Everything else is refused when the settings are read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

DEFAULT_QUALITY = 92
"""What ImageMagick uses without `-quality`."""
GRAVITIES = (
    "NorthWest",
    "North",
    "NorthEast",
    "West",
    "Center",
    "East",
    "SouthWest",
    "South",
    "SouthEast",
)
"""Row by row: the number of a gravity is 3 * row + column."""
_IGNORED = frozenset(("-strip", "-auto-orient", "-coalesce", "+repage"))
"""True of every version without being asked for."""
_SUFFIX = re.compile(r"[A-Za-z_-][A-Za-z0-9_-]{0,19}", re.ASCII)
_PERCENT = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)%([<>]?)", re.ASCII)
_GEOMETRY = re.compile(r"(\d{1,5})?(?:x(\d{1,5})?)?([!^]?)([<>]?)", re.ASCII)
_EXTENT = re.compile(r"(\d{1,5})x(\d{1,5})(?:\+0\+0)?", re.ASCII)

Fit = Literal["inside", "outside", "exact"]
"""`inside` the box, `outside` it (`^`: the box is covered), or `exact`ly the box (`!`)."""
Only = Literal["", "shrink", "enlarge"]
"""Change a picture only if this makes it smaller (`>`) or larger (`<`)."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The size of `-resize`: width and height in pixels, 0 where it follows from the other one; or
    a percentage.
    """

    width: int = 0
    height: int = 0
    percent: float = 0.0
    fit: Fit = "inside"
    only: Only = ""


@dataclass(frozen=True, slots=True)
class VersionRule:
    """How one resized version is made. `name` is the suffix in its keys. `extent` is the (width,
    height) in pixels that is cut out of the resized picture, at the side that `gravity` names.
    """

    name: str
    geometry: Geometry | None = None
    extent: tuple[int, int] | None = None
    gravity: str = GRAVITIES[0]
    quality: int = DEFAULT_QUALITY


def parse_version_rule(suffix: str, convert: Sequence[str]) -> VersionRule:
    """The rule that these arguments make. Raises ValueError, which names the argument
    that is not supported.
    """
    if not _SUFFIX.fullmatch(suffix):
        raise ValueError(
            f"suffix {suffix!r} should be at most 20 letters, digits, _ and -, and not begin with "
            "a digit"
        )
    found: dict[str, str] = {}
    rest = iter(convert)
    for option in rest:
        if option in _IGNORED:
            continue
        name = {"-thumbnail": "-resize"}.get(option, option)
        if name not in ("-resize", "-quality", "-gravity", "-extent"):
            raise ValueError(
                f"{suffix}: {option} is not supported; use -resize, -thumbnail, -quality, -gravity "
                "and -extent"
            )
        value = next(rest, None)
        if value is None:
            raise ValueError(f"{suffix}: {option} needs a value")
        if name in found:
            raise ValueError(f"{suffix}: {option} occurs twice")
        if name == "-resize" and "-extent" in found:
            raise ValueError(f"{suffix}: write {option} before -extent")
        found[name] = value
    return _rule(suffix, found)


def _rule(suffix: str, found: dict[str, str]) -> VersionRule:
    geometry = extent = None
    if "-resize" in found:
        geometry = _geometry(suffix, found["-resize"])
    if "-extent" in found:
        extent = _extent(suffix, found["-extent"], geometry)
    return VersionRule(
        suffix,
        geometry,
        extent,
        _gravity(suffix, found.get("-gravity", GRAVITIES[0])),
        _quality(suffix, found.get("-quality", str(DEFAULT_QUALITY))),
    )


def _geometry(suffix: str, text: str) -> Geometry:
    only: dict[str, Only] = {"": "", ">": "shrink", "<": "enlarge"}
    if (match := _PERCENT.fullmatch(text)) and float(match[1]) > 0:
        return Geometry(percent=float(match[1]), only=only[match[2]])
    match = _GEOMETRY.fullmatch(text)
    width, height = (int(match[1] or 0), int(match[2] or 0)) if match else (0, 0)
    if match is None or not (width or height):
        raise ValueError(
            f"{suffix}: the size {text!r} is not supported; write 400, 400x300 or x300 with "
            "^, !, > or < behind it, or 50%"
        )
    fits: dict[str, Fit] = {"": "inside", "^": "outside", "!": "exact"}
    return Geometry(width, height, fit=fits[match[3]], only=only[match[4]])


def _extent(suffix: str, text: str, geometry: Geometry | None) -> tuple[int, int]:
    match = _EXTENT.fullmatch(text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if 0 in size:
        raise ValueError(f"{suffix}: the extent {text!r} is not supported; write 200x200")
    is_covered = geometry is not None and not geometry.only and geometry.fit != "inside"
    if geometry is None or not is_covered or not _covers(geometry, size):
        raise ValueError(
            f"{suffix}: -extent {text} would add a border, which is not supported; write "
            f"-resize {size[0]}x{size[1]}^ before it"
        )
    return size


def _covers(geometry: Geometry, size: tuple[int, int]) -> bool:
    return geometry.width >= size[0] and geometry.height >= size[1]


def _gravity(suffix: str, text: str) -> str:
    for gravity in GRAVITIES:
        if gravity.lower() == text.lower().replace("centre", "center"):
            return gravity
    raise ValueError(f"{suffix}: -gravity {text} is not supported; write {', '.join(GRAVITIES)}")


def _quality(suffix: str, text: str) -> int:
    if re.fullmatch(r"\d{1,3}", text, re.ASCII) and 1 <= int(text) <= 100:
        return int(text)
    raise ValueError(f"{suffix}: -quality {text} is not supported; write 1 to 100")
