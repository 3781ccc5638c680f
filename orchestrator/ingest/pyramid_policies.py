"""Named policies of pyramid TIFFs, and the policy that the settings describe.

`default` keeps the full size. `parity` makes what the system makes that this product replaces:
limited in size, lossless tiles, the first page of a PDF.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.imaging import FASTEST, ConversionPolicy
from orchestrator.imaging.recipes import MAX_SIDE
from orchestrator.model import Dimensions
from orchestrator.settings import Pyramids

PARITY_RESOLUTION = 11.812
"""Pixels per millimetre: 300 dpi."""


@dataclass(frozen=True, slots=True)
class PyramidPolicy:
    """How pyramids are made of one original. `copyright_limits` is the largest (width, height) of
    a picture under copyright, if that is smaller than for others.
    """

    conversion: ConversionPolicy
    copyright_limits: Dimensions | None = None
    first_page_only: bool = False

    def conversion_for(self, *, is_copyrighted: bool) -> ConversionPolicy:
        """The conversion of a picture under copyright or of another one."""
        if not is_copyrighted or self.copyright_limits is None:
            return self.conversion
        width, height = self.copyright_limits
        limits = self.conversion.limits or self.copyright_limits
        return replace(self.conversion, limits=(min(width, limits[0]), min(height, limits[1])))


POLICIES = {
    "default": PyramidPolicy(replace(FASTEST, name="default")),
    "parity": PyramidPolicy(
        replace(
            FASTEST,
            name="parity",
            tile=512,
            compression="deflate",
            resolution=PARITY_RESOLUTION,
            limits=(4000, 4000),
            pdf_dpi=72,
        ),
        copyright_limits=(843, 560),
        first_page_only=True,
    ),
}


def policy_of(settings: Pyramids) -> PyramidPolicy:
    """The policy that the settings name, with the options that they change."""
    named = POLICIES[settings.policy]
    base = named.conversion
    conversion = replace(
        base,
        tile=settings.tile or base.tile,
        compression=settings.compression or base.compression,
        quality=settings.quality or base.quality,
        lossless=settings.lossless,
        resolution=settings.resolution or base.resolution,
        limits=_limits(settings.max_width, settings.max_height, base.limits),
        autorotate=settings.autorotate,
        srgb=settings.srgb,
        always_big=settings.bigtiff == "always",
        subifd=settings.subifd,
        pdf_dpi=settings.pdf_dpi or base.pdf_dpi,
    )
    limits = _limits(
        settings.copyright_max_width, settings.copyright_max_height, named.copyright_limits
    )
    return replace(named, conversion=conversion, copyright_limits=limits)


def _limits(width: int, height: int, default: Dimensions | None) -> Dimensions | None:
    """The limits that two settings describe; a side that is 0 is as in `default`."""
    if not width and not height:
        return default
    own = default or (MAX_SIDE, MAX_SIDE)
    return width or own[0], height or own[1]
