"""Parses the definitions of stored policies (pure). An invalid definition is refused with what to
change.

    optimisation  {"format": "tiff", "quality": 90, "tile": 256}   or "lossless": true
                  {"format": "jpeg2000", "quality": 80}            or "psnr": 45, or "lossless"
                  {"format": "original"}                           the original is the source
    thumbnail     {"sizes": [1000, 400, "!200,200"]}               or "1000,400,200", longest edges
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.errors import InvalidInput
from orchestrator.iiif.thumbnail_sizes import thumbnail_size
from orchestrator.imaging import FASTEST, JPEG2000_LOSSLESS, JPEG2000_LOSSY, ConversionPolicy
from orchestrator.imaging.recipes import psnr_for_quality

MAX_SIZES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_EDGES = re.compile(r"\s*[0-9]{1,6}\s*(?:,\s*[0-9]{1,6}\s*)*")
_TIFF = frozenset(("format", "quality", "lossless", "tile"))
_JPEG2000 = frozenset(("format", "quality", "psnr", "lossless", "tile"))
_TILES = (0, 128, 256, 512, 1024, 2048)
_PSNR = (20, 70)


def check_name(name: str) -> str:
    """Return `name` unchanged if it is a valid policy name. Raises InvalidInput."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "A policy's name must have 1 to 100 letters, digits, dots, hyphens and underscores, "
            "and begin with a letter or digit."
        )
    return name


def conversion_of(name: str, definition: Mapping[str, Any]) -> ConversionPolicy | None:
    """Return the conversion of an optimisation policy; None if the original is the source.

    Raises InvalidInput.
    """
    match definition.get("format"):
        case "original":
            _only(definition, frozenset(("format",)))
            return None
        case "tiff":
            _only(definition, _TIFF)
            return replace(
                FASTEST,
                name=name,
                tile=_tile(definition, FASTEST.tile, _TILES[1:-1]),
                quality=_number(definition, "quality", FASTEST.quality, (1, 100)),
                lossless=_lossless(definition),
            )
        case "jpeg2000":
            _only(definition, _JPEG2000)
            return _jpeg2000(name, definition)
        case _:
            raise InvalidInput("A policy's format must be jpeg2000, tiff or original.")


def _jpeg2000(name: str, definition: Mapping[str, Any]) -> ConversionPolicy:
    is_lossless = _lossless(definition)
    if is_lossless + ("psnr" in definition) + ("quality" in definition) > 1:
        raise InvalidInput("Give only one of quality, psnr and lossless.")
    pattern = JPEG2000_LOSSLESS if is_lossless else JPEG2000_LOSSY
    psnr = pattern.psnr
    if "quality" in definition:
        psnr = psnr_for_quality(_number(definition, "quality", 0, (1, 100)))
    elif "psnr" in definition:
        psnr = _number(definition, "psnr", 0, _PSNR)
    return replace(pattern, name=name, psnr=psnr, tile=_tile(definition, pattern.tile, _TILES))


def sizes_of(definition: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Return the sizes of a thumbnail policy. Raises InvalidInput."""
    _only(definition, frozenset(("sizes",)))
    sizes = split_edges(definition.get("sizes"))
    if not isinstance(sizes, list):
        raise InvalidInput('A thumbnail policy must be {"sizes": [...]}, a list of sizes.')
    return check_sizes(tuple(sizes))


def split_edges(sizes: object) -> object:
    """Return the list of longest edges that a text such as `1000,400,200,100` means; any other
    value unchanged.
    """
    if isinstance(sizes, str) and _EDGES.fullmatch(sizes):
        return [int(edge) for edge in sizes.split(",")]
    return sizes


def check_sizes(sizes: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return `sizes` unchanged if there is at least one and all are valid. Raises InvalidInput."""
    if not sizes:
        raise InvalidInput("A thumbnail policy must have at least one size.")
    if len(sizes) > MAX_SIZES:
        raise InvalidInput(f"A thumbnail policy must have at most {MAX_SIZES} sizes.")
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int | str):
            raise InvalidInput("A thumbnail size must be a whole number of pixels or a IIIF size.")
        thumbnail_size((1, 1), size)
    return sizes


def _only(definition: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(str(key)[:40] for key in definition if key not in known)
    if unknown:
        raise InvalidInput(
            f"A policy of this format has no {', '.join(unknown)}. It can have "
            f"{', '.join(sorted(known))}."
        )


def _lossless(definition: Mapping[str, Any]) -> bool:
    value = definition.get("lossless", False)
    if not isinstance(value, bool):
        raise InvalidInput("A policy's lossless must be true or false.")
    return value


def _number(definition: Mapping[str, Any], name: str, default: int, span: tuple[int, int]) -> int:
    value = definition.get(name, default)
    low, high = span
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInput(f"A policy's {name} must be a whole number from {low} to {high}.")
    return value


def _tile(definition: Mapping[str, Any], default: int, allowed: tuple[int, ...]) -> int:
    value = definition.get("tile", default)
    if isinstance(value, bool) or value not in allowed:
        known = ", ".join(str(edge) for edge in allowed)
        raise InvalidInput(f"A policy's tile must be one of {known} pixels (0: one tile).")
    return int(value)
