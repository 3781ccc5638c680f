"""The five parameters: what each text is parsed to, and the message of each error."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest

from orchestrator.errors import InvalidImageRequest
from orchestrator.iiif.syntax import (
    FORMATS,
    QUALITIES,
    ConfinedSize,
    ExactSize,
    FullRegion,
    FullSize,
    HeightSize,
    ImageRequest,
    MaxSize,
    PercentRegion,
    PercentSize,
    PixelRegion,
    Region,
    SizeRequest,
    SquareRegion,
    WidthSize,
    parse_image_request,
    parse_region,
    parse_rotation,
    parse_size,
)
from tests.support.patience import patience


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("full", FullRegion()),
        ("square", SquareRegion()),
        ("0,0,1,1", PixelRegion(0, 0, 1, 1)),
        ("007,0,10,20", PixelRegion(7, 0, 10, 20)),
        ("pct:0,12.5,.5,100", PercentRegion(*map(Fraction, ("0", "12.5", "0.5", "100")))),
    ],
)
def test_a_region_parses(text: str, expected: Region) -> None:
    assert parse_region(text) == expected


@pytest.mark.parametrize(
    ("text", "two", "three"),
    [
        ("max", MaxSize(), MaxSize()),
        ("100,", WidthSize(100, True), WidthSize(100)),
        (",100", HeightSize(100, True), HeightSize(100)),
        ("100,50", ExactSize(100, 50, True), ExactSize(100, 50)),
        ("!100,50", ConfinedSize(100, 50), ConfinedSize(100, 50)),
        ("pct:12.5", PercentSize(Fraction("12.5"), True), PercentSize(Fraction("12.5"))),
        ("pct:.5", PercentSize(Fraction("0.5"), True), PercentSize(Fraction("0.5"))),
        ("full", FullSize(), None),
        ("pct:150", PercentSize(Fraction(150), True), None),
        ("^max", None, MaxSize(True)),
        ("^100,", None, WidthSize(100, True)),
        ("^,100", None, HeightSize(100, True)),
        ("^100,50", None, ExactSize(100, 50, True)),
        ("^!100,50", None, ConfinedSize(100, 50, True)),
        ("^pct:150", None, PercentSize(Fraction(150), True)),
    ],
)
def test_a_size_is_parsed_as_its_version_defines(
    text: str, two: SizeRequest | None, three: SizeRequest | None
) -> None:
    for version, expected in ((2, two), (3, three)):
        if expected is None:
            with pytest.raises(InvalidImageRequest, match="size"):
                parse_size(text, version)
        else:
            assert parse_size(text, version) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", (False, Fraction(0))),
        ("!0", (True, Fraction(0))),
        ("360", (False, Fraction(360))),
        ("360.0", (False, Fraction(360))),
        ("22.50", (False, Fraction("22.5"))),
        ("!.5", (True, Fraction("0.5"))),
    ],
)
def test_a_rotation_parses(text: str, expected: tuple[bool, Fraction]) -> None:
    assert parse_rotation(text) == expected


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("extension", FORMATS)
def test_every_quality_and_format_parses(quality: str, extension: str) -> None:
    request = parse_image_request(("full", "max", "0", f"{quality}.{extension}"), 3)
    assert request == ImageRequest(
        3, FullRegion(), MaxSize(), False, Fraction(0), quality, extension
    )


GOOD = ("full", "10,", "0", "default.jpg")
PLACES = {"region": 0, "size": 1, "rotation": 2, "quality": 3, "format": 3}
WORDS = {
    "region": """FULL Full full, 0,0,0,10 0,0,10,0 0,0,10 0,0,10,10,10 -1,0,1,1 +1,0,1,1 1_0,0,1,1
        1e2,0,1,1 0x1,0,1,1 0.5,0,1,1 a,b,c,d ,,, pct: pct:0,0,0,1 pct:0,0,1,0 pct:nan,0,1,1
        pct:inf,0,1,1 pct:1e1,0,1,1 pct:5.,0,1,1 pct:.,0,1,1 pct:1.2.3,0,1,1 PCT:0,0,1,1
        ٣,0,1,1 \uff11,0,1,1 0,0,1,1, max 0;0;1;1 9999999999,0,1,1 pct:0,0,1 !0,0,1,1""",
    "size": """10 10,,10 !10, !,10 !, !10 0, ,0 0,0 !0,1 !1,0 -1, +10, 1_0, 10.5, 1e2, pct:0 pct:0.0
        pct:-5 pct: pct:inf pct:nan pct:+5 pct:1e300 pct:5% MAX max, !!1,1 ^^max all ^ ! ^! ^,
        ٣, 99999999999999999999, !^1,1 max^ 1,1,1 !max !pct:5 !full""",
    "rotation": """-90 361 360.1 abc ! !! !!90 90! 1e1 +90 1_0 nan 0x1 ٣ 5. . 90,0 360.01 !361""",
    "quality": """Default.jpg sepia.jpg native.jpg .jpg grey.jpg jpg . color,.jpg default,.jpg""",
    "format": """default default. default.exe default.JPG default.jpg.png default.jp2 default.pdf
        default.jpeg default.tiff default.jpg;x=1 default..jpg default.jpg.""",
}
AWKWARD = {
    "region": ["", " full", "full\n", "0, 0,1,1"],
    "size": ["", " 10,", "10, ", "9" * 400 + ",", "pct:" + "9" * 400, "10,\n"],
    "rotation": ["", " 0", "0 ", "0\n", "9" * 300, "0." + "0" * 300],
    "quality": ["", " default.jpg"],
    "format": ["default.jpg ", "default.jpg\n"],
}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("parameter", "text"),
    [(name, text) for name in PLACES for text in [*WORDS[name].split(), *AWKWARD[name]]],
)
def test_the_error_for_a_malformed_parameter_names_it_and_takes_no_time(
    version: int, parameter: str, text: str
) -> None:
    parts = list(GOOD)
    parts[PLACES[parameter]] = text
    started = time.perf_counter()
    with pytest.raises(InvalidImageRequest) as refused:
        parse_image_request(tuple(parts), version)
    assert time.perf_counter() - started < 0.5 * patience()
    assert refused.value.parameter == parameter
    assert parameter in refused.value.public
    assert len(refused.value.public) < 200


def test_an_error_says_what_to_write() -> None:
    with pytest.raises(InvalidImageRequest, match="Write max"):
        parse_size("full", 3)
    with pytest.raises(InvalidImageRequest, match=r"\^pct:n"):
        parse_size("pct:150", 3)
    with pytest.raises(InvalidImageRequest, match="jpg, png, webp, tif, gif, avif"):
        parse_image_request(("full", "max", "0", "default.bmp"), 3)


@pytest.mark.parametrize("size", [",", "!200,", "!,200"])
def test_a_size_without_the_sides_it_needs_is_refused(size: str) -> None:
    for version in (2, 3):
        with pytest.raises(InvalidImageRequest):
            parse_size(size, version)


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_another_number_of_parts_is_refused(count: int) -> None:
    with pytest.raises(InvalidImageRequest, match="region/size/rotation"):
        parse_image_request(("full",) * count, 3)
