"""Cuts and scales every frame of an animation (GIF, WebP); keeps delays, loop and transparency.

libvips draws each frame on the canvas, as a browser shows it. One frame at a time is decoded, so
that only the result is in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from orchestrator.errors import TooLarge, Unsupported
from orchestrator.imaging import colour, profiles, vips
from orchestrator.imaging.encode import encode_animation
from orchestrator.imaging.formats import gif_animation
from orchestrator.imaging.formats.file_type import sniff_file
from orchestrator.imaging.picture_headers import header_number
from orchestrator.imaging.probe import Bounds, check_frames, check_size
from orchestrator.imaging.recipes import OutputFormat, Recipe
from orchestrator.imaging.render import region_and_size_as_stored, resize, rotate

MAX_RESULT_PIXELS = 100_000_000
"""Most pixels of all frames of a result: about a minute to find the colours of a GIF."""


class _Animation(NamedTuple):
    """All frames of a file, below each other, to be read once from the top."""

    image: Any
    frames: int
    height: int
    orientation: int

    @property
    def dimensions(self) -> tuple[int, int]:
        """(width, height) of a frame in pixels, as stored."""
        return self.image.width, self.height


def animate(recipe: Recipe, bounds: Bounds) -> bytes:
    """The encoded animation (`recipe.format` is gif or webp) of the region, at the size, rotated by
    quarter turns.

    Raises TooLarge, Unsupported, SourceMismatch if the file is not the one that the recipe was made
    for, VipsError if a frame cannot be decoded, FileNotFoundError.
    """
    animation = _open(recipe.path)
    check_size(animation.dimensions, bounds)
    check_frames(animation.frames, bounds)
    _check_pixels(animation, recipe, bounds)
    region, size = region_and_size_as_stored(recipe, animation.dimensions, animation.orientation)
    frames = []
    for frame in _frames(animation):
        image = resize(colour.to_web(frame.crop(*region)), size)
        image = rotate(_turned(image, animation.orientation), recipe.rotation)
        frames.append(_with_all_channels(image).write_to_memory())
    width, height = recipe.size if recipe.rotation % 180 == 0 else recipe.size[::-1]
    rows = vips.Image.new_from_memory(
        b"".join(frames), width, height * len(frames), 4, "uchar"
    ).copy(interpretation="srgb")
    return encode_animation(
        rows, height, animation.image, cast("OutputFormat", recipe.format), recipe.encoder
    )


def _open(path: str) -> _Animation:
    name = sniff_file(Path(path))
    if name not in ("gif", "webp"):
        raise Unsupported("Only GIF and WebP files can be animations.")
    repaired = gif_animation.repair(Path(path)) if name == "gif" else None
    if repaired is None:
        image = vips.load(name, path, n=-1, access="sequential")
    else:
        image = vips.load_bytes(name, repaired.body, n=-1, access="sequential")
    frames = header_number(image, "n-pages", 1) - (repaired.added if repaired else 0)
    height = header_number(image, "page-height", image.height)
    return _Animation(image, frames, height, header_number(image, "orientation", 1))


def _check_pixels(animation: _Animation, recipe: Recipe, bounds: Bounds) -> None:
    width, height = animation.dimensions
    if animation.frames * width * height > bounds.max_pixels:
        raise TooLarge(f"The frames of the animation have more than {bounds.max_pixels} pixels.")
    if animation.frames * recipe.size[0] * recipe.size[1] > MAX_RESULT_PIXELS:
        raise TooLarge(
            f"The frames of the result would have more than {MAX_RESULT_PIXELS} pixels. "
            "Request a smaller size, or the first frame."
        )


def _frames(animation: _Animation) -> Iterator[Any]:
    """Each frame with its pixels in memory."""
    image, (width, height) = animation.image, animation.dimensions
    pixels, profile = vips.Region.new(image), profiles.profile_of(image)
    for number in range(animation.frames):
        body = bytes(pixels.fetch(0, number * height, width, height))
        frame = vips.Image.new_from_memory(body, width, height, image.bands, image.format)
        frame = frame.copy(interpretation=image.interpretation)
        if profile is not None:
            vips.attach_profile(frame, profile)
        yield frame


def _turned(image: Any, orientation: int) -> Any:
    return image if orientation == 1 else vips.with_orientation(image, orientation).autorot()


def _with_all_channels(image: Any) -> Any:
    """`image` as sRGB with alpha: all frames must have the same bands."""
    if image.bands < 3:
        image = image.colourspace("srgb")
    return image if image.hasalpha() else image.addalpha()
