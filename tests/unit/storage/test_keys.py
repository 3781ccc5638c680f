"""Object keys are readable, unique for every asset, and always below the asset's prefix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidImageRequest, InvalidInput
from orchestrator.model import AssetId
from orchestrator.storage import object_keys as keys

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=230)
ODD = st.text(st.sampled_from("aA.%/2F~ \u00e9\u65e5\U0001f5bc-_=+"), min_size=1, max_size=230)


def asset_or_none(name: str) -> AssetId | None:
    try:
        return AssetId(1, 2, name)
    except InvalidImageRequest:
        return None


def test_the_keys_of_an_asset() -> None:
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
def test_every_store_can_hold_the_keys_of_every_asset(name: str) -> None:
    asset_id = asset_or_none(name)
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
    first, second = asset_or_none(one), asset_or_none(other)
    if first is not None and second is not None and one != other:
        assert not keys.asset_prefix(first).startswith(keys.asset_prefix(second))


def test_a_name_that_is_not_unicode_text_is_refused() -> None:
    assert asset_or_none("undecodable \udcff") is None


def test_long_names_with_the_same_beginning_have_different_prefixes() -> None:
    one, other = AssetId(1, 1, "\u65e5" * 200), AssetId(1, 1, "\u65e5" * 199 + "\u672c")
    assert keys.asset_prefix(one) != keys.asset_prefix(other)


@pytest.mark.parametrize("extension", ["", "..", "a/b", "TIF", ".tif", "jp2/../../x"])
def test_an_extension_with_other_characters_is_refused(extension: str) -> None:
    with pytest.raises(InvalidInput):
        keys.source_key(AssetId(1, 1, "a"), 1, extension)


@pytest.mark.parametrize(("access", "edge"), [("public", 100), ("../open", 100), ("open", 0)])
def test_a_thumbnail_is_open_or_auth_and_has_an_edge(access: str, edge: int) -> None:
    with pytest.raises(InvalidInput):
        keys.thumbnail_key(AssetId(1, 1, "a"), 1, access, edge)
