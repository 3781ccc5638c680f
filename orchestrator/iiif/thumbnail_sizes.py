"""Computes which thumbnails a policy makes of one image. The sizes follow the IIIF Image API and
keep the aspect ratio.

Without ^ nothing is enlarged: an entry larger than the image gives the size of the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.errors import InvalidInput
from orchestrator.iiif.scale import Dimensions, fit_within

MAX_THUMBNAIL_EDGE = 10_000
"""Longest edge of a thumbnail in pixels. JPEG has at most 65,535, which `1000,` of an image of
3 x 70,000 pixels would exceed.
"""

_ENTRY = re.compile(r"(\^?)(?:(!)([0-9]{1,5}),([0-9]{1,5})|([0-9]{1,5}),|,([0-9]{1,5}))")


def thumbnail_size(dimensions: Dimensions, entry: int | str) -> Dimensions:
    """The (width, height) in pixels of one policy entry for an image of `dimensions`.

    `entry` is a number n (the same as `!n,n`), or `w,` or `,h` or `!w,h`, with ^ before it to
    enlarge. Raises InvalidInput for anything else.
    """
    width, height = dimensions
    upscale, box = _parse_entry(entry)
    largest = (MAX_THUMBNAIL_EDGE,) * 2 if upscale else (width, height)
    limits = (min(largest[0], MAX_THUMBNAIL_EDGE), min(largest[1], MAX_THUMBNAIL_EDGE))
    return fit_within(dimensions, (min(box[0], limits[0]), min(box[1], limits[1])))


def thumbnail_sizes(dimensions: Dimensions, entries: Iterable[int | str]) -> list[Dimensions]:
    """The distinct sizes of a policy, largest first; at least one whenever there is an entry.
    Raises InvalidInput.
    """
    sizes = {thumbnail_size(dimensions, entry) for entry in entries}
    return sorted(sizes, key=lambda size: (-max(size), -min(size)))


def sizes_by_edge(dimensions: Dimensions, entries: Iterable[int | str]) -> list[Dimensions]:
    """The sizes of a policy, largest first, one for each longest edge. Thumbnails are named by
    their longest edge. Raises InvalidInput.
    """
    by_edge: dict[int, Dimensions] = {}
    for size in thumbnail_sizes(dimensions, entries):
        by_edge.setdefault(max(size), size)
    return list(by_edge.values())


def _parse_entry(entry: int | str) -> tuple[bool, Dimensions]:
    """(True if the entry enlarges, the box that it confines to). A side that the entry omits has
    the longest length a thumbnail may have.
    """
    text = f"!{entry},{entry}" if isinstance(entry, int) or entry.isdigit() else entry
    match = _ENTRY.fullmatch(text)
    if match is None:
        forms = "a number of pixels, w, or ,h or !w,h, with ^ before it to enlarge"
        raise InvalidInput(f"The thumbnail size {str(entry)[:40]!r} must be {forms}.")
    upscale, _, *sides = match.groups()
    box_width, box_height, width, height = (
        int(side) if side else MAX_THUMBNAIL_EDGE for side in sides
    )
    box = (min(box_width, width), min(box_height, height))
    if 0 in box:
        raise InvalidInput(
            f"The thumbnail size {str(entry)[:40]!r} has a side of zero pixels. Use at least 1."
        )
    return bool(upscale), box
