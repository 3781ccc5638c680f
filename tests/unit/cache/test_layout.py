"""The paths of products: safe for any name, stable, and different for different products."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cache.disk.file_names import Product, asset_hash, parse, place, version_of

PATH = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}/\d+-[0-9a-f]{24}\.[a-z0-9]+")


@given(st.text(), st.integers(0, 10**17), st.text())
def test_any_name_gives_a_safe_path(asset: str, version: int, name: str) -> None:
    location = place(Product(asset, version, name, "jpg"))
    assert PATH.fullmatch(location.path)
    assert parse(location.asset, location.name) == location
    assert version_of(location.name) == version


def test_the_path_of_a_product_never_changes() -> None:
    # A change of layout loses every cache in the field: make it knowingly.
    location = place(Product("1/1/a", 7, "open/full/max", "tif"))
    assert location.path.startswith(f"{asset_hash('1/1/a')[:2]}/{asset_hash('1/1/a')}/7-")
    assert location.path == "dd/ddd7bf3fb5652f1569b235ea3cf008/7-d39a91689308f2430480f824.tif"


@pytest.mark.parametrize(
    "other",
    [
        Product("1/1/b", 1, "open/x", "jpg"),
        Product("1/1/a", 2, "open/x", "jpg"),
        Product("1/1/a", 1, "auth/x", "jpg"),
        Product("1/1/a", 1, "open/x", "png"),
    ],
    ids=["asset", "version", "access", "format"],
)
def test_different_products_have_different_paths(other: Product) -> None:
    assert place(other).path != place(Product("1/1/a", 1, "open/x", "jpg")).path


@pytest.mark.parametrize("extension", ["", "../x", "JPG", "j p", "a" * 9, "tif/.."])
def test_an_extension_with_other_characters_than_a_to_z_and_digits_is_refused(
    extension: str,
) -> None:
    with pytest.raises(ValueError, match="extension"):
        place(Product("1/1/a", 1, "x", extension))


@pytest.mark.parametrize("name", ["README", ".hidden", "1-abc.jpg", "x" * 40])
def test_other_file_names_are_not_parsed_as_products(name: str) -> None:
    assert parse(asset_hash("1/1/a"), name) is None
