"""What each kind of image server can make. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.iiif.geometry import ResolvedImage
from orchestrator.model import Asset, SourceKind
from orchestrator.routing.image_servers.request_form import has_fast_form


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a kind of image server can make; the built-in renderer makes the rest."""

    formats: frozenset[str]
    sources: frozenset[SourceKind]
    any_rotation: bool
    only_fast_forms: bool
    """True if it decodes at needless resolution what `has_fast_form` is false for."""


ABILITIES = {
    # Cantaloupe 5 and 6 answer 415 for webp. The end of its tif and gif output cannot be verified.
    "cantaloupe": Abilities(
        frozenset({"jpg", "png"}),
        frozenset({SourceKind.JPEG2000, SourceKind.PYRAMID_TIFF}),
        any_rotation=True,
        only_fast_forms=True,
    ),
    # iipsrv 1.1 encodes only JPEG and rotates only by multiples of 90 degrees.
    "iipimage": Abilities(
        frozenset({"jpg"}),
        frozenset({SourceKind.JPEG2000, SourceKind.PYRAMID_TIFF}),
        any_rotation=False,
        only_fast_forms=False,
    ),
}


def can_make(abilities: Abilities, asset: Asset, image: ResolvedImage) -> bool:
    """True if a server with these abilities can make this image of the asset."""
    source = asset.source
    is_enlarged = image.size[0] > image.region[2] or image.size[1] > image.region[3]
    needs_free_rotation = image.mirror or (image.rotation % 90 != 0)
    return (
        source is not None
        and source.kind in abilities.sources
        and image.format in abilities.formats
        and image.quality == "default"
        and not is_enlarged
        and (abilities.any_rotation or not needs_free_rotation)
        and (not abilities.only_fast_forms or has_fast_form(image, source.levels))
    )
