"""The settings of promotion: pyramids that are made of slow sources while they are requested."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from orchestrator.settings.field_types import Count, Seconds, Section


class Promotion(Section):
    """Pyramids on fast disk for images that keep drawing tiles from a slow source. The built-in
    image server makes them in the background.
    """

    enabled: bool = True
    """Make a pyramid TIFF of a JPEG2000 source, or of an original that is not converted, while
    clients keep requesting tiles of it, and cut JPEG, WebP and AVIF responses from that. It is in
    the source cache. False: neither make nor use such pyramids.
    """
    share: Annotated[float, Field(gt=0)] = 0.25
    """A pyramid is made when the tiles that were cut from an image had at least this many pixels,
    as a part of the pixels of the image. In processor time it pays from 0.6 (JPEG2000 in one piece)
    to 1.25 (JPEG2000 in tiles). It is made earlier because it uses idle cores only, and because
    its tiles take a hundredth of the time. Originals are decoded once for many tiles: their pixels
    count a fifth.
    """
    from_pixels: Count = 12_000_000
    """And when the tiles had at least this many pixels. One visit of a viewer draws up to 9
    megapixels, so it causes no pyramid of a small image.
    """
    window_s: Seconds = 3600
    """Time in which these pixels must be drawn. After a failure, an image is not tried again for
    this time.
    """
    idle_cores: Annotated[float, Field(ge=0)] = 0.5
    """A pyramid is begun only while so many processor cores are idle, measured over a second. Its
    decode worker then gets only the time that no other process wants.
    """
    at_once: Annotated[Count, Field(le=64)] = 1
    """Pyramids that are made at once on this host, by all its processes. Each uses one core."""
