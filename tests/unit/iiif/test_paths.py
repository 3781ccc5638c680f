"""Parsing of the raw path: routes, versions, identifiers, encodings."""

from __future__ import annotations

import pytest

from orchestrator.errors import InvalidImageRequest, NotFound
from orchestrator.iiif.paths import ImagePath, encode_identifier, parse_path

FOUR = ("full", "max", "0", "default.jpg")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/iiif/3/1%2F1%2Fa", ImagePath("iiif", 3, "1/1/a", ())),
        ("/iiif/3/1%2F1%2Fa/", ImagePath("iiif", 3, "1/1/a", ())),
        ("/iiif/2/alias/info.json", ImagePath("iiif", 2, "alias", ("info.json",))),
        ("/iiif/2/alias/full/max/0/default.jpg", ImagePath("iiif", 2, "alias", FOUR)),
        ("/iiif/3/1%2f1%2fa%252Fb/info.json", ImagePath("iiif", 3, "1/1/a%2Fb", ("info.json",))),
        ("/iiif/3/%61b/info.json", ImagePath("iiif", 3, "ab", ("info.json",))),
        ("/iiif-img/1/2/a", ImagePath("iiif-img", None, "1/2/a", ())),
        ("/iiif-img/v2/1/2/a/info.json", ImagePath("iiif-img", 2, "1/2/a", ("info.json",))),
        ("/iiif-img/v3/1/2/a/full/max/0/default.jpg", ImagePath("iiif-img", 3, "1/2/a", FOUR)),
        ("/iiif-img/acme/2/a", ImagePath("iiif-img", None, "acme/2/a", ())),
        ("/iiif-img/v33/2/a", ImagePath("iiif-img", None, "v33/2/a", ())),
        ("/iiif-img/v2x/2/a", ImagePath("iiif-img", None, "v2x/2/a", ())),
        ("/iiif-img/v3/v33/2/a", ImagePath("iiif-img", 3, "v33/2/a", ())),
        ("/iiif-img/1/2/a%2Fb/info.json", ImagePath("iiif-img", None, "1/2/a%2Fb", ("info.json",))),
        ("/iiif-img/1/2/50%25", ImagePath("iiif-img", None, "1/2/50%25", ())),
        ("/iiif-img/1/2/a%252Fb", ImagePath("iiif-img", None, "1/2/a%252Fb", ())),
        ("/thumbs/v2/1/2/a/info.json", ImagePath("thumbs", 2, "1/2/a", ("info.json",))),
        ("/iiif/3/a?x=1", ImagePath("iiif", 3, "a", ())),
        ("/iiif/3/a?x=#/%zz", ImagePath("iiif", 3, "a", ())),
        ("/iiif/3/a%3Fb%23c", ImagePath("iiif", 3, "a?b#c", ())),
        ("/iiif/3/a+b", ImagePath("iiif", 3, "a+b", ())),
        ("http://h:80/iiif/3/a", ImagePath("iiif", 3, "a", ())),
        ("HTTPS://h/iiif/3/a?q", ImagePath("iiif", 3, "a", ())),
        ("/iiif/3/caf%C3%A9", ImagePath("iiif", 3, "café", ())),
        ("/iiif/3/full/full/max/0/default.jpg", ImagePath("iiif", 3, "full", FOUR)),
    ],
)
def test_a_path_is_parsed(target: str, expected: ImagePath) -> None:
    assert parse_path(target) == expected


@pytest.mark.parametrize(
    ("target", "parameter"),
    [
        ("/iiif/4/a/info.json", "version"),
        ("/iiif/03/a/info.json", "version"),
        ("/iiif", "version"),
        ("/iiif-img/v1/1/2/a/info.json", "version"),
        ("/iiif-img/v4/1/2/a", "version"),
        ("/thumbs/v9/1/2/a", "version"),
        ("/iiif/3", "identifier"),
        ("/iiif/3//info.json", "identifier"),
        ("/iiif-img/1/2", "identifier"),
        ("/iiif-img/1/x/a", "identifier"),
        ("/iiif-img/1/1,2,3/a", "identifier"),
        ("/iiif-img/1/٣/a", "identifier"),
        ("/iiif-img/1234567890/1/a", "identifier"),
        ("/iiif-img/1%2F2/1/a", "identifier"),
        ("/iiif-img/../1/a", "identifier"),
        ("/iiif-img/1/1/..", "identifier"),
        ("/iiif-img/1/1/..%2F2%2Fa", "identifier"),
        ("/iiif/3/%2Fetc%2Fpasswd", "identifier"),
        ("/iiif/3/1%2F1%2F..%2Fa/info.json", "identifier"),
        ("/iiif/3/a%5Cb", "identifier"),
        ("/iiif/3/" + "a" * 221, "identifier"),
        ("/iiif-img/1/1/" + "a" * 217, "identifier"),
        ("/iiif/3/a/full", "path"),
        ("/iiif/3/a/full/max/0", "path"),
        ("/iiif/3/a/info.json/", "path"),
        ("/iiif/3/a//", "path"),
        ("/iiif-img/1/1/a/b/full/max/0/default.jpg", "path"),
        ("/iiif-img/v33/1/1/a/full/max/0/default.jpg", "path"),
        ("/iiif-img/1/1/a/b/info.json", "path"),
        ("/iiif/3/a%", "path"),
        ("/iiif/3/a%2", "path"),
        ("/iiif/3/a%zz", "path"),
        ("/iiif/3/a%00", "path"),
        ("/iiif/3/a%0d%0a", "path"),
        ("/iiif/3/a%C2%85", "path"),
        ("/iiif/3/%ff%fe", "path"),
        ("/iiif/3/%C0%AF", "path"),
        ("/iiif/3/%ED%A0%80", "path"),
        ("/iiif/3/a#b", "path"),
        ("/iiif/3/a b", "path"),
        ("/iiif/3/a\x00", "path"),
        ("/iiif/3/a\udcff", "path"),
        ("/iiif/3/" + "a" * 5000, "path"),
    ],
)
def test_the_error_for_a_path_that_cannot_name_an_image_says_which_part_is_wrong(
    target: str, parameter: str
) -> None:
    with pytest.raises(InvalidImageRequest) as refused:
        parse_path(target)
    assert refused.value.parameter == parameter


@pytest.mark.parametrize(
    "target",
    [
        "",
        "*",
        "/",
        "//iiif/3/a",
        "/iiif-images/1/1/a",
        "/IIIF/3/a",
        "ftp://h/iiif/3/a",
        "http://h",
        "iiif/3/a",
        "/iiif/3/a/b/full/max/0/default.jpg",
        "/iiif/3/1/1/a/full/max/0/default.jpg",
        "/iiif/3/a/b/info.json",
    ],
)
def test_other_routes_and_unencoded_slashes_are_not_found(target: str) -> None:
    with pytest.raises(NotFound):
        parse_path(target)


def test_an_identifier_of_the_greatest_length_is_parsed() -> None:
    assert parse_path("/iiif-img/1/1/" + "a" * 216).identifier == "1/1/" + "a" * 216


@pytest.mark.parametrize(
    ("target", "base"),
    [
        ("/iiif/3/1%2f1%2Fa~b/info.json", "/iiif/3/1%2F1%2Fa~b"),
        ("/iiif/2/%61 b".replace(" ", "%20"), "/iiif/2/a%20b"),
        ("/iiif-img/v3/acme/1/a%2Fb/info.json", "/iiif-img/v3/acme/1/a%2Fb"),
        ("/iiif-img/1/1/50%25", "/iiif-img/1/1/50%25"),
        ("/thumbs/1/1/a%252fb/", "/thumbs/1/1/a%252fb"),
    ],
)
def test_the_base_path_names_the_same_image_and_is_canonically_encoded(
    target: str, base: str
) -> None:
    path = parse_path(target)
    assert path.base == base
    assert parse_path(path.base).identifier == path.identifier


def test_all_but_unreserved_characters_of_an_identifier_are_encoded() -> None:
    assert encode_identifier("1/1/a b:é_-.~!") == "1%2F1%2Fa%20b%3A%C3%A9_-.~%21"


def test_an_encoded_dot_dot_never_reaches_another_image() -> None:
    """A path that is decoded twice would resolve an encoded `..` to the key of another asset."""
    assert parse_path("/iiif/3/1%2F1%2F%252e%252e%252Fb").identifier == "1/1/%2e%2e%2Fb"
    with pytest.raises(InvalidImageRequest):
        parse_path("/iiif/3/1%2F1%2F%2e%2e%2Fb")


@pytest.mark.parametrize("name", ["full", "default.jpg", "0", "max", "1", "info.json", "iiif-img"])
def test_an_image_may_have_the_name_of_a_parameter(name: str) -> None:
    """The parameters are the segments after the identifier, not the path without the identifier."""
    assert parse_path(f"/iiif-img/1/1/{name}/full/max/0/default.jpg") == ImagePath(
        "iiif-img", None, f"1/1/{name}", FOUR
    )


@pytest.mark.parametrize(
    ("slug", "version"), [("v2", 2), ("v3", 3)], ids=["version two", "version three"]
)
def test_a_version_slug_is_v_and_exactly_one_digit(slug: str, version: int) -> None:
    assert parse_path(f"/iiif-img/{slug}/1/1/a").version == version
    assert parse_path(f"/iiif-img/{slug}0/1/a").version is None
    assert parse_path(f"/iiif-img/x{slug}/1/a").identifier == f"x{slug}/1/a"
