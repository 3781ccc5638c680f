"""The keys of uploaded pictures."""

from __future__ import annotations

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.uploads.picture_keys import PictureKey, new_name


def test_a_name_is_a_time_and_ten_digits() -> None:
    name = new_name(1_500_000_000.9)
    assert name.startswith("1500000000_")
    assert len(name) == 21
    assert str(PictureKey.parse(f"{name}.jpg")) == f"{name}.jpg"
    assert new_name(1) != new_name(1)


@pytest.mark.parametrize(
    ("original", "version"),
    [
        ("1_2.jpg", "1_2BI.jpg"),
        ("1_2.png", "1_2BI.png"),
        ("1_2.gif", "1_2BI.gif"),
        ("1_2.svg", "1_2BI.jpg"),
        ("1_2.heic", "1_2BI.jpg"),
    ],
)
def test_a_version_has_the_suffix_before_the_extension(original: str, version: str) -> None:
    assert str(PictureKey.parse_original(original).of_version("BI")) == version
    assert PictureKey.parse(version).version == "BI"
    with pytest.raises(InvalidInput):
        PictureKey.parse_original(version)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "../1_2.jpg",
        "1_2.exe",
        "1_2",
        "a_2.jpg",
        "1_2.jpg\n",
        "1_2/3.jpg",
        ".1_2.jpg.json",
        "1_2.JPG",
        "1_2x3.jpg/..",
    ],
)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        PictureKey.parse(text)
