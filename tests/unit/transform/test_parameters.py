"""The grammar of parameters: base64 and plain text, what is refused, and the canonical form."""

from __future__ import annotations

import base64
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidInput
from orchestrator.transform.parameters import (
    MAX_LENGTH,
    Crop,
    Fit,
    NamedFormat,
    Parameters,
    decode,
    encode,
    parse_parameters,
)
from orchestrator.transform.shapes import Picture, plan_shape

EXAMPLE = Parameters(width=500, fit="crop")
SIDES = st.integers(-3, 2000)
PARAMETERS = st.builds(
    Parameters,
    width=SIDES,
    height=SIDES,
    quality=st.integers(1, 100),
    fit=st.sampled_from(get_args(Fit)),
    crop=st.sampled_from(get_args(Crop)),
    focus=st.tuples(*[st.integers(0, 3000)] * 4),
    frame=st.booleans(),
    format=st.sampled_from(get_args(NamedFormat)),
)


@pytest.mark.parametrize(
    "segment",
    [
        "d2lkdGg9NTAwLGZpdD1jcm9wCg==",  # the original's documentation has this line feed inside
        "d2lkdGg9NTAwLGZpdD1jcm9wCg",
        "d2lkdGg9NTAwLGZpdD1jcm9wCg=",
        "d2lkdGg9NTAwLGZpdD1jcm9wCg==\n",
        "d2lkdGg9NTAwLGZp\r\ndD1jcm9w",
        "width=500,fit=crop",
        " width = 500 , fit=crop \n",
        "fit=crop,width=500",
        "width=+500",
        "width=00500",
    ],
)
def test_all_spellings_of_the_example_are_the_same_parameters(segment: str) -> None:
    assert parse_parameters(segment) == EXAMPLE
    assert parse_parameters(segment).canonical == "width=500"


def test_both_alphabets_of_base64_are_read() -> None:
    text = "width=5,focus=1:2:3:4 \t,fit=clip??>>~~"  # gives + and /, which valid text never does
    standard, url_safe = base64.b64encode(text.encode()), base64.urlsafe_b64encode(text.encode())
    assert standard != url_safe
    assert decode(standard.decode()) == decode(url_safe.decode()) == text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("widht=500", "widht"),
        ("Width=500", "Width"),
        ("width=500,width=600", "width"),
        ("width=1.5", "width"),
        ("width=", "width"),
        ("width=\N{SUPERSCRIPT TWO}", "width"),
        ("height=abc", "height"),
        ("quality=0", "quality"),
        ("quality=101", "quality"),
        ("fit=scale", "fit"),
        ("crop=middle", "crop"),
        ("focus=1:2:3", "focus"),
        ("focus=1:2:3:-4", "focus"),
        ("focus=1:2:3:4:5", "focus"),
        ("frame=yes", "frame"),
        ("format=tiff", "format"),
        ("width=500,", "''"),
        (",width=500", "''"),
        ("width", "width"),
        ("width=500=600", "width=500=600"),
        ("", "''"),
        ("..", ".."),
        ("header/promo", "header/promo"),
    ],
)
def test_a_fault_is_named(text: str, named: str) -> None:
    for segment in {text, encode(text)} - {encode("")}:
        with pytest.raises(InvalidInput) as refused:
            parse_parameters(segment)
        assert named in refused.value.public


@pytest.mark.parametrize("folder", ["promo", "header", "images2024", "a", "AAAA", "2024-11", "x=="])
def test_the_name_of_a_folder_is_not_a_list_of_parameters(folder: str) -> None:
    with pytest.raises(InvalidInput):
        parse_parameters(folder)


def test_a_segment_that_is_too_long_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidInput, match="at most"):
        parse_parameters("width=" + "1" * MAX_LENGTH)
    with pytest.raises(InvalidInput) as refused:
        parse_parameters("fit=" + "x" * (MAX_LENGTH - 4))
    assert len(refused.value.public) < 200


def test_without_strict_the_last_of_equal_keys_counts() -> None:
    assert parse_parameters("width=500,width=600", strict=False).width == 600
    with pytest.raises(InvalidInput):
        parse_parameters("width=500,length=600", strict=False)


def test_the_order_of_the_focus_is_a_setting() -> None:
    text = "width=10,height=10,crop=focus,focus=1:2:3:4"
    assert parse_parameters(text).focus == (1, 2, 3, 4)
    assert parse_parameters(text, focus_order="xywh").focus == (3, 4, 1, 2)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("height=5,width=3", "width=3,height=5"),
        ("width=3,fit=clip,crop=left", "width=3"),
        ("width=3,height=5,fit=clip,crop=left", "width=3,height=5,fit=clip"),
        ("width=3,height=5,crop=top,focus=1:2:3:4", "width=3,height=5"),
        (
            "width=3,height=5,focus=1:2:3:4,crop=focus",
            "width=3,height=5,crop=focus,focus=1:2:3:4",
        ),
        ("width=0", "width=0"),
        ("width=-7,height=3", "width=0"),
        ("quality=75,frame=false", "width=0"),
        ("frame=true,quality=9", "quality=9,frame=true"),
        ("format=jpg", "format=jpeg"),
    ],
)
def test_the_canonical_form_has_only_what_has_an_effect(text: str, canonical: str) -> None:
    assert parse_parameters(text).canonical == canonical


@given(PARAMETERS)
def test_the_canonical_form_is_read_as_itself_from_text_and_base64(parameters: Parameters) -> None:
    canonical = parameters.canonical
    for segment in (canonical, encode(canonical), encode(canonical).rstrip("=")):
        assert decode(segment) == canonical
        assert parse_parameters(segment).canonical == canonical


@given(PARAMETERS, st.integers(1, 1500), st.integers(1, 1500))
def test_the_canonical_form_gives_the_same_picture(
    parameters: Parameters, width: int, height: int
) -> None:
    picture = Picture(width, height)
    same = parse_parameters(parameters.canonical)
    assert plan_shape(same, picture) == plan_shape(parameters, picture)
    assert (same.quality, same.frame, same.format) == (
        parameters.quality,
        parameters.frame,
        parameters.format,
    )


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(segment: str) -> None:
    for each in (segment, encode(segment)):
        try:
            parse_parameters(each)
        except InvalidInput as refused:
            assert refused.public.isprintable()
