"""Which thumbnails a policy gives for one image: sizes by IIIF arithmetic, never distorted, never
none.

Golden vectors: `reference/engine.md` 9.4. Without ^ nothing is enlarged: a size above the image is
the image's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.errors import InvalidInput
from orchestrator.iiif.scale import Dimensions, fit_within

MAX_THUMBNAIL_EDGE = 10_000
"""Longest edge of a thumbnail in pixels: a 3 x 70,000 picture's `1000,` stays a file that JPEG can
hold.
"""

_ENTRY = re.compile(r"(\^?)(?:(!)([0-9]{1,5}),([0-9]{1,5})|([0-9]{1,5}),|,([0-9]{1,5}))")


def thumbnail_size(dimensions: Dimensions, entry: int | str) -> Dimensions:
    """The (width, height) in pixels of one policy entry for an image of `dimensions`.

    `entry` is a number n (the same as `!n,n`) or one of `w,` `,h` `!w,h`, with ^ before it to
    enlarge. Raises InvalidInput for anything else.
    """
    width, height = dimensions
    upscale, box = _box(entry)
    own = (MAX_THUMBNAIL_EDGE,) * 2 if upscale else (width, height)
    limits = (min(own[0], MAX_THUMBNAIL_EDGE), min(own[1], MAX_THUMBNAIL_EDGE))
    return fit_within(dimensions, (min(box[0], limits[0]), min(box[1], limits[1])))


def thumbnail_sizes(dimensions: Dimensions, entries: Iterable[int | str]) -> list[Dimensions]:
    """The distinct sizes of a policy, largest first; at least one whenever there is an entry.
    Raises InvalidInput.
    """
    sizes = {thumbnail_size(dimensions, entry) for entry in entries}
    return sorted(sizes, key=lambda size: (-max(size), -min(size)))


def sizes_by_edge(dimensions: Dimensions, entries: Iterable[int | str]) -> list[Dimensions]:
    """The sizes of a policy, largest first, one for each longest edge, by which thumbnails are
    named. Raises InvalidInput.
    """
    by_edge: dict[int, Dimensions] = {}
    for size in thumbnail_sizes(dimensions, entries):
        by_edge.setdefault(max(size), size)
    return list(by_edge.values())


def _box(entry: int | str) -> tuple[bool, Dimensions]:
    """Whether an entry enlarges, and the box it confines to; an open side is as long as a thumbnail
    may be.
    """
    text = f"!{entry},{entry}" if isinstance(entry, int) or entry.isdigit() else entry
    found = _ENTRY.fullmatch(text)
    if found is None:
        forms = "a number of pixels, w, or ,h or !w,h, or one of these after ^"
        raise InvalidInput(f"The thumbnail size {str(entry)[:40]!r} is not {forms}.")
    upscale, _, *sides = found.groups()
    box_width, box_height, width, height = (
        int(side) if side else MAX_THUMBNAIL_EDGE for side in sides
    )
    box = (min(box_width, width), min(box_height, height))
    if 0 in box:
        raise InvalidInput(f"The thumbnail size {str(entry)[:40]!r} has a side of zero pixels.")
    return bool(upscale), box
