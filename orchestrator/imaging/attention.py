"""Finds the point of a picture that a viewer looks at first: edges, skin colours and saturation, in
a small rendering.
"""

from __future__ import annotations

from orchestrator.iiif.scale import fit_within
from orchestrator.imaging import vips
from orchestrator.imaging.jpeg2000.binding import CodestreamError
from orchestrator.imaging.open_pictures import OpenPictures
from orchestrator.imaging.recipes import Probe, Recipe
from orchestrator.imaging.render import cut_region, region_and_size_as_stored
from orchestrator.imaging.render_cost import check_cost

_EDGE = 256
"""Longest edge in pixels of the rendering; libvips reduces it further."""


def attention_recipe(path: str, probe: Probe) -> Recipe:
    """What `find_attention` looks at: the whole picture, small."""
    width, height = min(_EDGE, probe.width), min(_EDGE, probe.height)
    return Recipe(
        path=path,
        kind=probe.kind,
        dimensions=probe.dimensions,
        levels=probe.levels,
        region=(0, 0, *probe.dimensions),
        size=fit_within(probe.dimensions, (width, height)),
    )


def find_attention(
    recipe: Recipe, pictures: OpenPictures, max_cost: int | None = None
) -> tuple[int, int]:
    """(x, y) in pixels of the upright picture. Raises as `imaging.render.render`."""
    picture = pictures.open(recipe.path)
    try:
        if max_cost is not None:
            stored = region_and_size_as_stored(recipe, picture.levels[0], picture.orientation)
            check_cost(recipe, picture, *stored, max_cost)
        image = cut_region(recipe, picture, pictures).copy_memory()
    except (vips.VipsError, CodestreamError):
        pictures.forget(recipe.path)
        raise
    edge = min(image.width, image.height)
    _, found = image.smartcrop(
        edge, edge, interesting="attention", attention_x=True, attention_y=True
    )
    (width, height), (small_width, small_height) = recipe.dimensions, recipe.size
    return (
        min(width - 1, (2 * found["attention_x"] + 1) * width // (2 * small_width)),
        min(height - 1, (2 * found["attention_y"] + 1) * height // (2 * small_height)),
    )
