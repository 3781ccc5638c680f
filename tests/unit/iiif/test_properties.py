"""Properties of every path, every request and every image (hypothesis)."""

from __future__ import annotations

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.errors import InvalidImageRequest, NotFound
from orchestrator.iiif.geometry import Limits, ResolvedImage, within_public_edge
from orchestrator.iiif.info_documents import advertised_sizes, scale_factors, tile_shape
from orchestrator.iiif.paths import encode_identifier, parse_path
from orchestrator.iiif.rotation import canvas_area
from orchestrator.iiif.scale import Dimensions
from orchestrator.iiif.syntax import parse_image_request
from orchestrator.iiif.thumbnail_sizes import thumbnail_size, thumbnail_sizes
from tests.unit.iiif.resolving import resolve_text

sides = st.integers(1, 3_000) | st.integers(1, 100_000)
images = st.tuples(sides, sides)
digits = (st.integers(1, 300) | st.integers(0, 20_000)).map(str)
decimals = st.one_of(digits, st.decimals(0, 120, places=2).map(str), st.just(".5"))
limits = st.builds(
    Limits,
    max_width=st.integers(1, 20_000),
    max_height=st.integers(1, 20_000),
    max_area=st.integers(1, 100_000_000),
    max_enlargement=st.sampled_from([1.0, 1.5, 8.0]),
    oversize_confined=st.sampled_from(["clamp", "refuse"]),
)
regions = st.one_of(
    st.sampled_from(["full", "square"]),
    st.tuples(digits, digits, digits, digits).map(",".join),
    st.tuples(decimals, decimals, decimals, decimals).map(lambda t: "pct:" + ",".join(t)),
)
sizes = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "", "", "^"]),
        st.one_of(
            st.just("max"),
            digits.map("{},".format),
            digits.map(",{}".format),
            st.tuples(digits, digits).map(",".join),
            st.tuples(digits, digits).map(lambda t: "!" + ",".join(t)),
            decimals.map("pct:{}".format),
        ),
    ),
)
rotations = st.tuples(st.sampled_from(["", "!"]), decimals).map("".join)
outputs = st.tuples(
    st.sampled_from(["default", "color", "gray", "bitonal"]), st.sampled_from(["jpg", "png"])
).map(".".join)
requests = st.tuples(regions, sizes, rotations, outputs).map("/".join)
versions = st.sampled_from([2, 3])

PIECES = [
    *"/%.,:!^?#&=+ \t\x00é\\",
    "%2",
    "%2F",
    "%25",
    "%00",
    "%ff",
    "..",
    "iiif",
    "iiif-img",
    "v2",
]
PIECES += [
    "v3",
    "3",
    "1",
    "full",
    "max",
    "0",
    "default.jpg",
    "info.json",
    "pct:",
    "http://h",
    "9" * 50,
]


def resolve_or_none(
    text: str, version: int, dimensions: Dimensions, within: Limits
) -> ResolvedImage | None:
    """The resolved request, or None if it is refused."""
    try:
        return resolve_text(text, version, dimensions, within)
    except InvalidImageRequest:
        return None


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
@example("/iiif/3/\ud800")
def test_any_target_is_parsed_or_refused_with_a_message(target: str) -> None:
    for text in (target, "/iiif/3/" + target, "/iiif-img/1/1/a/" + target):
        try:
            path = parse_path(text)
            if len(path.rest) == 4:
                parse_image_request(path.rest, path.version or 3)
        except (InvalidImageRequest, NotFound) as refused:
            assert 0 < len(refused.public) < 250
        else:
            assert parse_path(path.base).identifier == path.identifier


@given(st.text(min_size=1, max_size=60))
def test_an_encoded_identifier_is_decoded_to_the_same_text(identifier: str) -> None:
    try:
        target = f"/iiif/3/{encode_identifier(identifier)}/info.json"
        path = parse_path(target)
    except (InvalidImageRequest, UnicodeEncodeError):
        return
    assert path.identifier == identifier


@given(st.lists(st.text(max_size=12), min_size=4, max_size=4), versions)
def test_any_four_parameters_parse_or_are_refused(parts: list[str], version: int) -> None:
    try:
        parse_image_request(tuple(parts), version)
    except InvalidImageRequest as refused:
        assert refused.parameter in refused.public


@settings(max_examples=400)
@given(requests, versions, images, limits)
def test_a_resolved_request_is_inside_the_image_and_within_the_limits(
    text: str, version: int, dimensions: Dimensions, within: Limits
) -> None:
    resolved = resolve_or_none(text, version, dimensions, within)
    if resolved is None:
        return
    x, y, w, h = resolved.region
    width, height = resolved.size
    assert 0 <= x < x + w <= dimensions[0]
    assert 0 <= y < y + h <= dimensions[1]
    assert 1 <= width <= within.max_width
    assert 1 <= height <= within.max_height
    assert width * height <= within.max_area
    canvas = canvas_area(resolved.size, resolved.rotation)
    assert canvas <= within.max_area or resolved.size == (1, 1)
    assert width <= math.ceil(w * within.max_enlargement)
    assert height <= math.ceil(h * within.max_enlargement)
    assert resolved.full_region == ((w, h) == dimensions)
    assert 0 <= resolved.rotation < 360
    if version == 3 and not text.split("/")[1].startswith("^"):
        assert width <= w
        assert height <= h


@settings(max_examples=400)
@given(requests, versions, images, limits)
def test_a_canonical_form_is_canonical_and_has_the_same_product(
    text: str, version: int, dimensions: Dimensions, within: Limits
) -> None:
    resolved = resolve_or_none(text, version, dimensions, within)
    if resolved is None:
        return
    assert resolve_text(resolved.canonical, version, dimensions, within) == resolved
    x, y, w, h = resolved.region
    size = f"^{resolved.size[0]},{resolved.size[1]}"
    _, _, rotation, output = resolved.canonical.split("/")
    explicit = f"{x},{y},{w},{h}/{size}/{rotation}/{output}"
    assert resolve_text(explicit, 3, dimensions, within).product == resolved.product


@given(images, limits, st.integers(1, 4000), regions)
def test_a_public_max_is_always_public_for_the_whole_image_and_never_more_for_a_part(
    dimensions: Dimensions, within: Limits, edge: int, region: str
) -> None:
    try:
        resolved = resolve_text(f"{region}/max", 3, dimensions, within, public_edge=edge)
    except InvalidImageRequest:
        return
    allowed = within_public_edge(resolved, dimensions, edge)
    assert allowed or (not resolved.full_region and 1 in resolved.size)


@given(images, limits, st.sampled_from([256, 512, 1024]))
def test_advertised_sizes_and_tiles_are_within_the_limits(
    dimensions: Dimensions, within: Limits, tile: int
) -> None:
    thumbnails = thumbnail_sizes(dimensions, [1000, 400, 200, 100])
    advertised = advertised_sizes(dimensions, thumbnails, within)
    assert advertised
    for width, height in [*advertised, tile_shape((tile, tile), within)]:
        assert 1 <= width <= within.max_width
        assert 1 <= height <= within.max_height
        assert width * height <= within.max_area
    for size in advertised:
        assert resolve_text(f"full/{size[0]},{size[1]}", 3, dimensions, within).size == size
    factors = scale_factors(dimensions, (tile, tile))
    assert tile * factors[-1] >= max(dimensions)
    assert factors == [2**n for n in range(len(factors))]


@given(
    images, st.integers(1, 5000), st.sampled_from(["{0}", "{0},", ",{0}", "!{0},77", "^!{0},900"])
)
def test_a_thumbnail_has_at_least_one_pixel_and_is_enlarged_only_with_the_caret(
    dimensions: Dimensions, side: int, form: str
) -> None:
    width, height = thumbnail_size(dimensions, form.format(side))
    assert width >= 1
    assert height >= 1
    if "^" not in form:
        assert width <= dimensions[0]
        assert height <= dimensions[1]


@given(images, st.lists(st.integers(1, 3000), min_size=2, max_size=6))
def test_no_two_thumbnails_of_a_policy_have_the_same_longest_edge(
    dimensions: Dimensions, edges: list[int]
) -> None:
    entries = [form.format(edge) for edge in edges for form in ("{0}", "{0},", ",{0}", "^{0},")]
    longest = [max(size) for size in thumbnail_sizes(dimensions, entries)]
    assert len(longest) == len(set(longest))
    assert longest == sorted(longest, reverse=True)
