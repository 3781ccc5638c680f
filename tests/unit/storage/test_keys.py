"""Keys: readable, unique for every asset, and never out of an asset's own prefix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidImageRequest, InvalidInput
from orchestrator.model import AssetId
from orchestrator.storage import object_keys as keys

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=230)
ODD = st.text(st.sampled_from("aA.%/2F~ \u00e9\u65e5\U0001f5bc-_=+"), min_size=1, max_size=230)


def made(name: str) -> AssetId | None:
    try:
        return AssetId(1, 2, name)
    except InvalidImageRequest:
        return None


def test_an_assets_keys_are_these() -> None:
    asset_id = AssetId(3, 5, "page 1/recto.tif")
    assert keys.asset_prefix(asset_id) == "3/5/page%201%2Frecto.tif/"
    assert keys.prefix(asset_id, 7) == "3/5/page%201%2Frecto.tif/7/"
    assert keys.source_key(asset_id, 7, "jp2") == "3/5/page%201%2Frecto.tif/7/source.jp2"
    assert keys.thumbnail_key(asset_id, 7, "open", 400) == (
        "3/5/page%201%2Frecto.tif/7/open/400.jpg"
    )
    assert keys.thumbnail_key(asset_id, 7, "auth", 1000) == (
        "3/5/page%201%2Frecto.tif/7/auth/1000.jpg"
    )
    assert keys.sizes_key(asset_id, 7) == "3/5/page%201%2Frecto.tif/7/s.json"


@given(st.one_of(TEXT, ODD))
def test_every_asset_has_keys_that_every_store_can_hold(name: str) -> None:
    asset_id = made(name)
    if asset_id is not None:
        for key in (
            keys.source_key(asset_id, 2**63 - 1, "tif"),
            keys.thumbnail_key(asset_id, 2**63 - 1, "auth", 2**31),
            keys.sizes_key(asset_id, 2**63 - 1),
        ):
            assert keys.check_key(key) == key
            assert key.startswith("1/2/")
            assert key.count("/") == 4 + (key.endswith(".jpg"))


@given(st.one_of(TEXT, ODD), st.one_of(TEXT, ODD))
def test_no_two_assets_share_a_prefix(one: str, other: str) -> None:
    first, second = made(one), made(other)
    if first is not None and second is not None and one != other:
        assert not keys.asset_prefix(first).startswith(keys.asset_prefix(second))


def test_a_name_that_is_no_unicode_text_is_no_assets() -> None:
    assert made("undecodable \udcff") is None


def test_long_names_that_begin_alike_are_kept_apart() -> None:
    one, other = AssetId(1, 1, "\u65e5" * 200), AssetId(1, 1, "\u65e5" * 199 + "\u672c")
    assert keys.asset_prefix(one) != keys.asset_prefix(other)


@pytest.mark.parametrize("extension", ["", "..", "a/b", "TIF", ".tif", "jp2/../../x"])
def test_an_extension_is_plain(extension: str) -> None:
    with pytest.raises(InvalidInput):
        keys.source_key(AssetId(1, 1, "a"), 1, extension)


@pytest.mark.parametrize(("access", "edge"), [("public", 100), ("../open", 100), ("open", 0)])
def test_a_thumbnail_is_open_or_auth_and_has_an_edge(access: str, edge: int) -> None:
    with pytest.raises(InvalidInput):
        keys.thumbnail_key(AssetId(1, 1, "a"), 1, access, edge)
