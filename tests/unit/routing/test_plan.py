"""The table of decisions: which stored thumbnails may answer which requests, and when the source is
needed.
"""

from __future__ import annotations

import pytest

from orchestrator.errors import NotAuthorised
from orchestrator.iiif.geometry import Limits, resolve
from orchestrator.iiif.syntax import parse_image_request
from orchestrator.model import ThumbnailSizes
from orchestrator.routing.plan import (
    ExactThumbnail,
    FromSource,
    ResizedThumbnail,
    ThumbnailRules,
    access_class,
    plan,
    resolve_thumbnail,
    thumbnail_plan,
)
from tests.support.builders import LANDSCAPE, PORTRAIT, SQUARES, an_asset

LIMITS = Limits()
SHAPES = {"L": (4096, 2604), "P": (2604, 4096), "Q": (4096, 4096)}
THUMBNAILS = {"L": LANDSCAPE, "P": PORTRAIT, "Q": SQUARES}


def resolved(path: str, dimensions: tuple[int, int], version: int = 3):
    return resolve(parse_image_request(tuple(path.split("/")), version), dimensions, LIMITS)


def steps(shape: str, path: str, rules: ThumbnailRules | None = None, **changes):
    width, height = SHAPES[shape]
    asset = an_asset(
        width=width, height=height, thumbnails=ThumbnailSizes(open=THUMBNAILS[shape]), **changes
    )
    image = resolved(path, (width, height))
    return plan(
        asset, image, access_class(asset, image, authorised=False), rules or ThumbnailRules()
    )


def first_step(found: tuple) -> str:
    """E: exact thumbnail, R: resized thumbnail, each with its longest edge; S: source."""
    match found[0]:
        case ExactThumbnail(size):
            return f"E {max(size)}"
        case ResizedThumbnail(size):
            return f"R {max(size)}"
        case _:
            return "S"


@pytest.mark.parametrize(
    ("size", "landscape", "portrait", "square"),
    [
        ("200,127", "E 200", "R 400", "R 200"),
        ("!200,200", "E 200", "E 200", "E 200"),
        ("!200,100", "R 200", "E 100", "E 100"),
        ("!100,200", "E 100", "R 200", "E 100"),
        ("!400,300", "E 400", "R 400", "R 400"),
        ("200,", "E 200", "R 400", "E 200"),
        (",200", "R 400", "E 200", "E 200"),
        ("127,", "R 200", "E 200", "R 200"),
        (",127", "E 200", "R 200", "R 200"),
        ("!180,180", "R 200", "R 200", "R 200"),
        ("!500,500", "R 1024", "R 1024", "R 1024"),
        ("150,150", "R 400", "R 400", "R 200"),
        ("!1024,1024", "E 1024", "E 1024", "E 1024"),
        ("!1200,1200", "S", "S", "S"),
        ("2000,", "S", "S", "S"),
        ("pct:25", "E 1024", "E 1024", "E 1024"),
        ("max", "S", "S", "S"),
    ],
)
def test_the_first_step_for_each_form_of_size_and_each_shape_of_image(
    size, landscape, portrait, square
):
    path = f"full/{size}/0/default.jpg"
    assert first_step(steps("L", path)) == landscape
    assert first_step(steps("P", path)) == portrait
    assert first_step(steps("Q", path)) == square


@pytest.mark.parametrize("region", ["full", "0,0,4096,4096", "square", "pct:0,0,100,100"])
def test_every_form_of_the_full_region_may_use_a_thumbnail(region):
    assert first_step(steps("Q", f"{region}/400,/0/default.jpg")) == "E 400"


@pytest.mark.parametrize(
    "path",
    [
        "full/400,/0/default.png",
        "full/400,/90/default.jpg",
        "full/400,/!0/default.jpg",
        "full/400,/0/gray.jpg",
        "full/400,/0/bitonal.jpg",
        "full/400,/0/default.webp",
    ],
)
def test_other_formats_rotations_and_qualities_of_the_full_region_need_the_source(path):
    assert steps("L", path) == (FromSource(),)


@pytest.mark.parametrize(
    "path",
    [
        "0,0,512,512/400,/0/default.jpg",
        "square/400,/0/default.jpg",
        "0,0,4095,2604/400,/0/default.jpg",
    ],
)
def test_a_region_needs_the_source_even_if_a_thumbnail_has_its_size(path):
    assert steps("L", path) == (FromSource(),)


@pytest.mark.parametrize(
    ("shape", "path", "version", "size"),
    [
        ("L", "full/max/0/default.jpg", 3, (1024, 651)),
        ("L", "full/max/0/default.jpg", 2, (1024, 651)),
        ("L", "full/full/0/default.jpg", 2, (1024, 651)),
        ("P", "full/max/0/default.jpg", 3, (651, 1024)),
        ("Q", "square/max/0/default.jpg", 3, (1024, 1024)),
        ("L", "0,0,9999,9999/max/0/color.jpg", 3, (1024, 651)),
        ("L", "full/^max/0/default.jpg", 3, (1024, 651)),
    ],
)
def test_max_of_a_thumbnail_service_is_the_largest_thumbnail(shape, path, version, size):
    """Level 0 requires it, and the info document names that size as maxWidth and maxHeight."""
    width, height = SHAPES[shape]
    asset = an_asset(width=width, height=height, thumbnails=ThumbnailSizes(open=THUMBNAILS[shape]))
    request = parse_image_request(tuple(path.split("/")), version)
    image = resolve_thumbnail(request, asset, LIMITS, None)
    assert thumbnail_plan(asset, image, ThumbnailRules())[0] == ExactThumbnail(size, "open")
    keyword = "full" if version == 2 else "max"
    assert image.canonical == f"full/{keyword}/0/default.jpg"


def test_other_requests_of_a_thumbnail_service_are_resolved_as_usual():
    asset = an_asset()
    for path in ("0,0,100,100/max/0/default.jpg", "full/100,/0/default.jpg"):
        request = parse_image_request(tuple(path.split("/")), 3)
        image = resolve_thumbnail(request, asset, LIMITS, None)
        assert image == resolve(request, asset.dimensions, LIMITS)


def test_every_plan_ends_with_the_source_so_that_a_failed_tier_has_a_successor():
    found = steps("L", "full/200,/0/default.jpg")
    assert [type(step) for step in found] == [ExactThumbnail, ResizedThumbnail, FromSource]


def test_a_smaller_thumbnail_is_enlarged_only_as_far_as_a_rule_allows():
    rules = ThumbnailRules.of(resize_thumbnails=True, upscale=[("^1/1/", 20.0)], tolerance_px=0)
    assert first_step(steps("L", "full/!1200,1200/0/default.jpg", rules)) == "R 1024"
    assert first_step(steps("L", "full/!1300,1300/0/default.jpg", rules)) == "S"
    elsewhere = ThumbnailRules.of(resize_thumbnails=True, upscale=[("^2/", 20.0)], tolerance_px=0)
    assert first_step(steps("L", "full/!1200,1200/0/default.jpg", elsewhere)) == "S"


def test_an_enlargement_of_one_side_is_limited_by_that_side():
    rules = ThumbnailRules.of(resize_thumbnails=True, upscale=[(".", 20.0)], tolerance_px=0)
    asset = an_asset(thumbnails=ThumbnailSizes(open=((200, 127),)))
    image = resolved("full/150,150/0/default.jpg", asset.dimensions)
    assert first_step(plan(asset, image, "open", rules)) == "R 200"
    image = resolved("full/150,170/0/default.jpg", asset.dimensions)
    assert first_step(plan(asset, image, "open", rules)) == "S"


def test_a_setting_turns_resizing_off():
    assert (
        first_step(steps("L", "full/180,/0/default.jpg", ThumbnailRules(resize_thumbnails=False)))
        == "S"
    )


def test_a_thumbnail_within_the_size_tolerance_counts_as_exact():
    near = ThumbnailRules(size_tolerance_px=1)
    assert first_step(steps("L", "full/400,255/0/default.jpg", near)) == "E 400"
    assert first_step(steps("L", "full/400,256/0/default.jpg", near)) == "R 1024"


def test_thumbnails_that_do_not_exist_yet_are_not_in_the_plan():
    assert first_step(steps("L", "full/200,/0/default.jpg", thumbnails_version=0)) == "S"


def test_an_asset_without_thumbnails_needs_the_source():
    asset = an_asset(thumbnails=ThumbnailSizes())
    image = resolved("full/200,/0/default.jpg", asset.dimensions)
    assert plan(asset, image, "open", ThumbnailRules()) == (FromSource(),)


# --- restricted assets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "full/900,900/0/default.jpg",
        "full/!900,900/0/default.jpg",
        "full/pct:50/0/default.jpg",
        "0,0,1800,1800/900,/0/default.jpg",
        "square/,900/0/default.jpg",
    ],
)
def test_an_image_within_the_public_edge_of_a_restricted_asset_is_open(path):
    asset = an_asset(width=1800, height=1800, max_unauthorised=900, roles=("staff",))
    image = resolved(path, asset.dimensions)
    assert access_class(asset, image, authorised=False) == "open"
    assert access_class(asset, image, authorised=True) == "open"


@pytest.mark.parametrize(
    "path",
    [
        "full/901,901/0/default.jpg",
        "full/max/0/default.jpg",
        "0,0,512,512/512,/0/default.jpg",
        "pct:0,0,50,50/500,/0/default.jpg",
        "square/!901,901/0/default.jpg",
    ],
)
def test_an_image_above_the_public_edge_needs_authorisation(path):
    asset = an_asset(width=1800, height=1800, max_unauthorised=900)
    image = resolved(path, asset.dimensions)
    with pytest.raises(NotAuthorised):
        access_class(asset, image, authorised=False)
    assert access_class(asset, image, authorised=True) == "auth"


def test_a_coarse_tile_within_the_public_scale_is_open():
    asset = an_asset(width=4096, height=4096, max_unauthorised=1024)
    image = resolved("0,0,2048,2048/512,512/0/default.jpg", asset.dimensions)
    assert access_class(asset, image, authorised=False) == "open"


@pytest.mark.parametrize(
    ("roles", "edge", "restricted"),
    [
        ((), -1, False),
        ((), 0, True),
        ((), 10, True),
        (("a",), -1, True),
        (("a",), 0, True),
        (("a",), 10, True),
    ],
)
def test_roles_or_a_public_edge_restrict_an_asset(roles, edge, restricted):
    assert an_asset(roles=roles, max_unauthorised=edge).restricted is restricted


def test_an_asset_with_roles_and_no_public_edge_is_closed_to_anonymous_clients():
    asset = an_asset(roles=("staff",))
    image = resolved("full/100,/0/default.jpg", asset.dimensions)
    with pytest.raises(NotAuthorised):
        access_class(asset, image, authorised=False)


def test_auth_thumbnails_are_only_in_the_plan_of_authorised_clients():
    sizes = ThumbnailSizes(open=((200, 127),), auth=((1024, 651),))
    asset = an_asset(thumbnails=sizes, roles=("staff",), max_unauthorised=200)
    image = resolved("full/1024,/0/default.jpg", asset.dimensions)
    assert plan(asset, image, "auth", ThumbnailRules())[0] == ExactThumbnail((1024, 651), "auth")
    small = resolved("full/150,/0/default.jpg", asset.dimensions)
    assert plan(asset, small, "open", ThumbnailRules())[0] == ResizedThumbnail((200, 127), "open")


# --- /thumbs --------------------------------------------------------------------------------------


def test_the_plan_of_thumbs_never_uses_the_source_and_needs_the_full_region():
    asset = an_asset(width=4096, height=2604)
    whole = resolved("full/200,/0/default.jpg", asset.dimensions)
    assert FromSource not in {type(step) for step in thumbnail_plan(asset, whole, ThumbnailRules())}
    part = resolved("0,0,10,10/10,/0/default.jpg", asset.dimensions)
    assert thumbnail_plan(asset, part, ThumbnailRules()) == ()
    large = resolved("full/2000,/0/default.jpg", asset.dimensions)
    assert thumbnail_plan(asset, large, ThumbnailRules()) == ()
