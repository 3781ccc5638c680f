"""Info documents follow the specification, and advertise only what a request gets."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.iiif.access_services import (
    CONTEXT_2,
    AccessAddresses,
    AccessService,
    AccessTexts,
    info_services,
)
from orchestrator.iiif.geometry import Limits
from orchestrator.iiif.info_documents import (
    InfoInput,
    advertised_sizes,
    info_document,
    level0_document,
    restricted_document,
    scale_factors,
    tile_shape,
)
from orchestrator.iiif.link_header import image_link, info_link, info_media_type
from orchestrator.iiif.scale import Dimensions
from orchestrator.iiif.thumbnail_sizes import thumbnail_size, thumbnail_sizes
from tests.unit.iiif.resolving import resolve_text

POLICY = (1000, 400, 200, 100)
LIMITS = Limits()
SHAPES: list[Dimensions] = [
    (1200, 900),
    (703, 1003),
    (9001, 1009),
    (1, 1),
    (1, 9000),
    (16384, 12288),
    (40_000, 30_000),
]


def facts(dimensions: Dimensions = (1200, 900), limits: Limits = LIMITS) -> InfoInput:
    thumbnails = thumbnail_sizes(dimensions, POLICY)
    return InfoInput(
        "https://example.org/iiif/3/1%2F1%2Fa",
        *dimensions,
        sizes=advertised_sizes(dimensions, thumbnails, limits),
        limits=limits,
        scale_factors=scale_factors(dimensions, (256, 256)),
    )


def test_the_keys_of_a_version_three_document_are_in_order() -> None:
    document = info_document(3, facts())
    keys = (
        "@context id type protocol profile width height maxWidth maxHeight maxArea sizes tiles "
        "extraQualities extraFormats extraFeatures"
    )
    assert list(document) == keys.split()
    assert document["@context"] == "http://iiif.io/api/image/3/context.json"
    assert document["id"] == "https://example.org/iiif/3/1%2F1%2Fa"
    assert (document["type"], document["profile"]) == ("ImageService3", "level2")
    assert document["sizes"] == [{"width": 400, "height": 300}, {"width": 1000, "height": 750}]
    assert document["tiles"] == [{"width": 256, "height": 256, "scaleFactors": [1, 2, 4, 8]}]
    assert document["extraFormats"] == ["webp", "tif", "gif", "avif"]
    assert document["extraFeatures"] == [
        "canonicalLinkHeader",
        "mirroring",
        "profileLinkHeader",
        "rotationArbitrary",
        "sizeUpscaling",
    ]


def test_the_keys_of_a_version_two_document_are_in_order() -> None:
    document = info_document(2, facts())
    keys = "@context @id protocol width height sizes tiles profile"
    assert list(document) == keys.split()
    level, extras = document["profile"]
    assert level == "http://iiif.io/api/image/2/level2.json"
    assert extras["formats"] == ["jpg", "png", "webp", "tif", "gif", "avif"]
    assert extras["qualities"] == ["color", "gray", "bitonal"]
    assert set(extras["supports"]) >= {"regionSquare", "sizeAboveFull", "mirroring"}
    assert (extras["maxWidth"], extras["maxHeight"], extras["maxArea"]) == (
        12_000,
        12_000,
        50_000_000,
    )


@pytest.mark.parametrize("version", [2, 3])
def test_rights_and_services_are_written_if_the_image_has_them(version: int) -> None:
    service = {"id": "https://example.org/auth", "type": "AuthProbeService2"}
    described = replace(facts(), rights="http://creativecommons.org/licenses/by/4.0/")
    one = info_document(version, replace(described, services=[service]))
    assert one["license" if version == 2 else "rights"] == described.rights
    assert one["service"] == (service if version == 2 else [service])
    assert (
        info_document(version, replace(described, services=[service] * 2))["service"]
        == [service] * 2
    )


def test_preferred_formats_are_written_if_they_are_set() -> None:
    document = info_document(3, replace(facts(), preferred_formats=("webp", "jpg")))
    assert document["preferredFormats"] == ["webp", "jpg"]


def test_a_format_that_is_not_encoded_is_not_advertised() -> None:
    described = replace(facts(), formats=("jpg", "png", "webp"))
    assert info_document(3, described)["extraFormats"] == ["webp"]
    assert info_document(2, described)["profile"][1]["formats"] == ["jpg", "png", "webp"]


def test_enlarging_is_not_advertised_if_the_limits_do_not_allow_it() -> None:
    described = facts(limits=Limits(max_enlargement=1.0))
    assert "sizeUpscaling" not in info_document(3, described)["extraFeatures"]
    assert "sizeAboveFull" not in info_document(2, described)["profile"][1]["supports"]


@pytest.mark.parametrize("dimensions", SHAPES, ids=lambda d: f"{d[0]}x{d[1]}")
@pytest.mark.parametrize(
    "limits",
    [LIMITS, Limits(500, 500), Limits(300, 200, 20_000), Limits(10, 10, 50)],
    ids=["default limits", "public edge", "narrow", "very narrow"],
)
@pytest.mark.parametrize("version", [2, 3])
def test_every_advertised_size_and_tile_is_answered_at_exactly_that_size(
    dimensions: Dimensions, limits: Limits, version: int
) -> None:
    document = info_document(version, facts(dimensions, limits))
    sizes = [(size["width"], size["height"]) for size in document["sizes"]]
    assert sizes
    assert sizes == sorted(sizes)
    for width, height in sizes:
        assert resolve_text(f"full/{width},{height}", version, dimensions, limits).size == (
            width,
            height,
        )
        assert (
            abs(height - width * dimensions[1] / dimensions[0]) <= 1 + dimensions[1] / dimensions[0]
        )
    (tile,) = document["tiles"]
    factor = tile["scaleFactors"][-1]
    for x in range(0, dimensions[0], tile["width"] * factor)[-3:]:
        for y in range(0, dimensions[1], tile["height"] * factor)[-3:]:
            w = min(tile["width"] * factor, dimensions[0] - x)
            h = min(tile["height"] * factor, dimensions[1] - y)
            size = (-(-w // factor), -(-h // factor))
            text = f"{x},{y},{w},{h}/{size[0]},{size[1]}"
            assert resolve_text(text, version, dimensions, limits).size == size


def test_a_restricted_images_tile_is_halved_until_it_is_within_the_limits() -> None:
    assert tile_shape((512, 512), Limits(500, 500)) == (256, 256)
    assert tile_shape((512, 512), LIMITS) == (512, 512)
    assert tile_shape((300, 7), Limits(1, 1, 1)) == (1, 1)


@pytest.mark.parametrize(
    ("dimensions", "tile", "expected"),
    [
        ((1000, 1000), (256, 256), [1, 2, 4]),
        ((4200, 8400), (256, 256), [1, 2, 4, 8, 16, 32, 64]),
        ((256, 256), (256, 256), [1]),
        ((257, 1), (256, 256), [1, 2]),
        ((1, 1), (512, 512), [1]),
        ((1000, 1000), (1000, 16), [1, 2, 4, 8, 16, 32, 64]),
    ],
)
def test_scale_factors_end_where_one_tile_contains_the_image(
    dimensions: Dimensions, tile: Dimensions, expected: list[int]
) -> None:
    assert scale_factors(dimensions, tile) == expected


def test_enlarged_thumbnails_and_those_above_the_limits_are_not_advertised() -> None:
    thumbnails = [(1600, 1200), (1000, 750), (400, 300)]
    assert advertised_sizes((1200, 900), thumbnails, LIMITS) == [(400, 300), (1000, 750)]
    assert advertised_sizes((1200, 900), thumbnails, Limits(500, 500)) == [(400, 300)]


def test_an_image_without_thumbnails_still_advertises_a_size() -> None:
    assert advertised_sizes((4000, 3000), [], LIMITS) == [(1000, 750)]
    assert advertised_sizes((40, 30), [], LIMITS) == [(40, 30)]
    assert advertised_sizes((4000, 3000), [], Limits(50, 40, 1000)) == [(36, 27)]


@pytest.mark.parametrize("version", [2, 3])
def test_the_level_zero_document_advertises_at_most_its_largest_thumbnail(version: int) -> None:
    document = level0_document(version, replace(facts(), rights="http://example.org/r"))
    limits: dict[str, Any] = document if version == 3 else document["profile"][1]
    assert "tiles" not in document
    assert (limits["maxWidth"], limits["maxHeight"]) == (1000, 750)
    assert document["sizes"][-1] == {"width": 1000, "height": 750}
    if version == 2:
        assert document["profile"][0] == "http://iiif.io/api/image/2/level0.json"
        assert "sizeByWhListed" in limits["supports"]
    else:
        assert document["profile"] == "level0"
    assert json.loads(json.dumps(document)) == document


def test_link_headers_name_the_canonical_url_and_the_level() -> None:
    assert image_link(3, "https://h/full/^max/0/x").startswith("<https://h/full/%5Emax/0/x>;")
    assert image_link(3, "https://h/x") == (
        '<https://h/x>;rel="canonical",<http://iiif.io/api/image/3/level2.json>;rel="profile"'
    )
    assert "level0" in image_link(2, "https://h/x", level=0)
    assert "context" not in info_link(2, linked=True)
    assert "http://iiif.io/api/image/2/context.json" in info_link(2, linked=False)


@pytest.mark.parametrize(
    ("version", "linked", "expected"),
    [
        (2, False, "application/json"),
        (3, False, "application/json"),
        (2, True, "application/ld+json"),
        (
            3,
            True,
            'application/ld+json;profile="http://iiif.io/api/image/3/context.json"',
        ),
    ],
)
def test_the_media_type_names_the_profile_in_version_three(
    version: int, linked: bool, expected: str
) -> None:
    assert info_media_type(version, linked=linked) == expected


ACCESS = AccessService("staff", "login", frozenset({"staff"}), AccessTexts("Library"))
HERE = AccessAddresses("https://example.org", 1)


@pytest.mark.parametrize("version", [2, 3])
def test_the_document_of_a_hidden_image_has_services_and_nothing_about_the_image(
    version: int,
) -> None:
    services = info_services(HERE, (1, "a"), [ACCESS], version)
    document = restricted_document(version, facts().id_url, services, (CONTEXT_2,))
    assert set(document) <= {
        "@context", "id", "@id", "type", "protocol", "profile", "service"
    }  # fmt: skip
    assert len(document["service"]) == 2


def test_a_document_of_version_three_has_the_context_of_its_services_before_its_own() -> None:
    services = info_services(HERE, (1, "a"), [ACCESS], 3)
    document = info_document(3, replace(facts(), services=services, contexts=(CONTEXT_2,)))
    assert document["@context"] == [CONTEXT_2, "http://iiif.io/api/image/3/context.json"]
    probe, older = document["service"]
    assert probe["type"] == "AuthProbeService2"
    assert older["@context"] == "http://iiif.io/api/auth/1/context.json"


def test_a_document_of_version_two_keeps_one_context_and_its_services_have_their_own() -> None:
    services = info_services(HERE, (1, "a"), [ACCESS], 2)
    document = info_document(2, replace(facts(), services=services))
    assert document["@context"] == "http://iiif.io/api/image/2/context.json"
    assert [each["@context"] for each in document["service"]] == [
        "http://iiif.io/api/auth/1/context.json",
        CONTEXT_2,
    ]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("policy", [(1000, 400, 200, 100), (400, 200, 100), (200,), (50,)], ids=str)
@pytest.mark.parametrize("edge", [40, 90, 200, 256, 300, 500, 700, 1000, 1500, 4000, 9000, 40_000])
def test_no_viewer_takes_the_listed_sizes_for_those_of_other_levels(
    edge: int, policy: tuple[int, ...], version: int
) -> None:
    """OpenSeadragon 4 and 5: as many sizes as levels, or one less, are the sizes of the levels."""
    dimensions = (edge, max(1, round(edge * 0.7)))
    factors = scale_factors(dimensions, (256, 256))
    thumbnails = [thumbnail_size(dimensions, each) for each in policy]
    image = InfoInput(
        "https://example.org/iiif/3/1%2F1%2Fa",
        *dimensions,
        sizes=advertised_sizes(dimensions, thumbnails, LIMITS),
        limits=LIMITS,
        scale_factors=factors,
    )
    sizes = [(each["width"], each["height"]) for each in info_document(version, image)["sizes"]]
    assert sizes
    highest = round(math.log2(max(factors)))
    if len(sizes) in (highest, highest + 1):
        levels = sizes if len(sizes) > highest else [*sizes, dimensions]
        assert levels == [
            (math.ceil(dimensions[0] / factor), math.ceil(dimensions[1] / factor))
            for factor in reversed(factors)
        ]
