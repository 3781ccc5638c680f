"""The keys of pyramids and their assets."""

from __future__ import annotations

import pytest

from orchestrator.catalog.pyramid_values import SourceObject
from orchestrator.ingest.events.event_acceptance import has_extension
from orchestrator.ingest.events.pyramid_keys import asset_of, bases_of, targets_of
from orchestrator.settings import Pyramids


@pytest.mark.parametrize(
    ("key", "first", "second"),
    [
        ("digital/isaac_gala/lantern.png", "digital/isaac_gala/lantern", "lantern.png"),
        ("lantern.png", "lantern", "lantern.png"),
        ("a.b/c.d.tif", "a.b/c.d", "c.d.tif"),
    ],
)
def test_the_base_is_the_key_without_extension_then_with_it(
    key: str, first: str, second: str
) -> None:
    bases = bases_of("", SourceObject("rbsc", key))
    assert bases[0] == first
    assert bases[1].endswith(second)
    assert len(bases) == 3


def test_a_file_without_extension_has_its_name_as_base() -> None:
    assert bases_of("p/", SourceObject("rbsc", "a/scan"))[0] == "p/a/scan"
    assert len(bases_of("", SourceObject("rbsc", "a/scan"))) == 2


def test_the_last_base_differs_between_buckets() -> None:
    one, other = (bases_of("", SourceObject(bucket, "a/1.jpg"))[-1] for bucket in ("b", "c"))
    assert one != other


def test_pages_are_numbered_unless_there_is_only_one() -> None:
    assert targets_of("a/b", 1) == ("a/b.tif",)
    assert targets_of("a/b", 2) == ("a/b_0001.tif", "a/b_0002.tif")


def test_a_key_is_the_name_of_its_asset() -> None:
    settings = Pyramids(customer=3, space=4)
    assert str(asset_of(settings, "a/1 ü.tif")) == "3/4/a%2F1 ü"


@pytest.mark.parametrize("target", ["a//b.tif", f"{'x' * 300}.tif", "a\x01b.tif"])
def test_a_key_that_cannot_be_a_name_is_replaced_by_its_digest(target: str) -> None:
    asset = asset_of(Pyramids(), target)
    assert len(asset.name) == 32
    assert asset == asset_of(Pyramids(), target)


def test_extensions_are_compared_in_any_case() -> None:
    assert has_extension("a.JPG", ["jpg"])
    assert has_extension("a.tif", [".TIF"])
    assert not has_extension("xpdf", ["pdf"])
