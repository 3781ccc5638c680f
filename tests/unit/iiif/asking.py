"""Short ways to ask the pure package for things, shared by its tests."""

from __future__ import annotations

from orchestrator.iiif.geometry import Dimensions, Limits, ResolvedImage, resolve
from orchestrator.iiif.syntax import parse_image_request

LIMITS = Limits()
IMAGE: Dimensions = (1200, 900)


def ask(
    text: str,
    version: int = 3,
    dimensions: Dimensions = IMAGE,
    limits: Limits = LIMITS,
    public_edge: int | None = None,
) -> ResolvedImage:
    """Resolve `region/size` or all four parameters; what is left out is `/0/default.jpg`."""
    rest = text if text.count("/") == 3 else f"{text}/0/default.jpg"
    request = parse_image_request(tuple(rest.split("/")), version)
    return resolve(request, dimensions, limits, public_edge=public_edge)
