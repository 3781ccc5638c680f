"""Parses and resolves a request in one call, for the tests of this folder."""

from __future__ import annotations

from orchestrator.iiif.geometry import Limits, ResolvedImage, resolve
from orchestrator.iiif.scale import Dimensions
from orchestrator.iiif.syntax import parse_image_request

LIMITS = Limits()
IMAGE: Dimensions = (1200, 900)


def resolve_text(
    text: str,
    version: int = 3,
    dimensions: Dimensions = IMAGE,
    limits: Limits = LIMITS,
    public_edge: int | None = None,
) -> ResolvedImage:
    """Resolve `region/size` or all four parameters. The default of the last two is
    `/0/default.jpg`.
    """
    rest = text if text.count("/") == 3 else f"{text}/0/default.jpg"
    request = parse_image_request(tuple(rest.split("/")), version)
    return resolve(request, dimensions, limits, public_edge=public_edge)
