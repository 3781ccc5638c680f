"""Sizes and regions of resized versions: the golden sizes of the default configuration, the
geometries of ImageMagick, and crops.
"""

from __future__ import annotations

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.settings import Uploads
from orchestrator.settings.convert_arguments import VersionRule, parse_version_rule
from orchestrator.uploads.version_plan import VersionPlan, parse_crop, plan_version, rules_digest

DEFAULT = [parse_version_rule(**dict(rule)) for rule in Uploads().resizing]


def a_rule(*arguments: str) -> VersionRule:
    return parse_version_rule("X", arguments)


@pytest.mark.parametrize(
    ("dimensions", "expected"),
    [
        ((426, 592), [(426, 592), (288, 400), (200, 200)]),
        ((1151, 551), [(1151, 551), (400, 191), (200, 200)]),
        ((600, 244), [(600, 244), (400, 163), (200, 200)]),
        ((522, 579), [(522, 579), (361, 400), (200, 200)]),
        ((100, 80), [(100, 80), (100, 80), (200, 200)]),
        ((600, 500), [(600, 500), (400, 333), (200, 200)]),
        ((4000, 3000), [(1500, 1125), (400, 300), (200, 200)]),
        ((10_000, 3), [(1500, 1), (400, 1), (200, 200)]),
    ],
)
def test_the_default_versions_have_the_golden_sizes(
    dimensions: tuple[int, int], expected: list[tuple[int, int]]
) -> None:
    assert [plan_version(rule, dimensions, None).size for rule in DEFAULT] == expected


@pytest.mark.parametrize(
    ("geometry", "dimensions", "expected"),
    [
        ("400", (800, 600), (400, 300)),
        ("400", (200, 100), (400, 200)),
        ("x300", (800, 600), (400, 300)),
        ("400x", (800, 600), (400, 300)),
        ("50%", (801, 601), (401, 301)),
        ("400x400!", (800, 600), (400, 400)),
        ("x100!", (800, 600), (800, 100)),
        ("400x400^", (800, 600), (533, 400)),
        ("400x400^>", (800, 300), (800, 300)),
        ("400x400<", (800, 600), (800, 600)),
        ("1000x1000<", (800, 600), (1000, 750)),
        ("200%>", (800, 600), (800, 600)),
    ],
)
def test_geometries_are_those_of_imagemagick(
    geometry: str, dimensions: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert plan_version(a_rule("-resize", geometry), dimensions, None).size == expected


@pytest.mark.parametrize(
    ("gravity", "region"),
    [
        ("Center", (0, 83, 426, 426)),
        ("North", (0, 0, 426, 426)),
        ("southeast", (0, 166, 426, 426)),
    ],
)
def test_the_extent_is_cut_at_the_side_of_its_gravity(
    gravity: str, region: tuple[int, int, int, int]
) -> None:
    rule = a_rule("-thumbnail", "200x200^", "-gravity", gravity, "-extent", "200x200")
    assert plan_version(rule, (426, 592), None) == VersionPlan("X", region, (200, 200), 92)


def test_a_version_of_a_crop_lies_in_the_crop() -> None:
    rule = DEFAULT[2]
    plan = plan_version(rule, (426, 592), (10, 20, 200, 100))
    assert plan.region == (60, 20, 100, 100)
    assert plan_version(a_rule(), (426, 592), (10, 20, 200, 100)).size == (200, 100)


def test_a_crop_is_cut_at_the_edge_of_the_picture() -> None:
    assert parse_crop("200x100+10+20", (426, 592)) == (10, 20, 200, 100)
    assert parse_crop("9999x9999+400+500", (426, 592)) == (400, 500, 26, 92)


@pytest.mark.parametrize(
    "text",
    [
        "garbage",
        "100x100",
        "100x100+10",
        "100x100-10+10",
        "0x100+0+0",
        "100x100+426+0",
        "100x100+0+592",
        "100x100+10+10\n",
        "100%x100+0+0",
        "١٠x10+0+0",
    ],
)
def test_other_crops_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_crop(text, (426, 592))


def test_the_digest_depends_on_rules_and_crop() -> None:
    crops = [None, (0, 0, 5, 5), (0, 0, 5, 6)]
    digests = {rules_digest(rules, crop) for rules in (DEFAULT, DEFAULT[:2]) for crop in crops}
    assert len(digests) == 6
