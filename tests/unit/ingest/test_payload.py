"""The ingest payload in all its forms; any other body is refused with a sentence."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import AssetNotFound, InvalidImageRequest, InvalidInput
from orchestrator.ingest.payload.decoding import Payload, complete_request, decode, encode
from orchestrator.ingest.payload.envelopes import MAX_BODY_BYTES
from orchestrator.ingest.register import Request
from orchestrator.model import Asset, AssetId, AssetState
from tests.support.patience import patience

ORIGIN = "https://example.org/interesting-image"
FOO = AssetId(99, 1, "foo")


def refusal(body: Any, customer: int | None = None, **more: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        decode(body, customer, **more)
    return caught.value.public


# --- the example requests ------------------------------------------------------------------------


def test_the_basic_example_request_belongs_to_the_customer_of_the_key() -> None:
    body = {"id": "basic-request", "space": 1, "origin": ORIGIN}
    assert decode(json.dumps(body), 7) == Payload(Request(AssetId(7, 1, "basic-request"), ORIGIN))


def test_the_example_request_with_policies_names_them_by_url() -> None:
    body = {
        "id": "basic-request",
        "space": 1,
        "origin": ORIGIN,
        "imageOptimisationPolicy": "https://my.dlcs/imageOptimisationPolicies/fastest",
        "thumbnailPolicy": "https://my.dlcs/thumbnailPolicies/museum/",
    }
    request = decode(body, 7).request
    assert (request.optimisation_policy, request.thumbnail_policy) == ("fastest", "museum")


def test_an_example_request_with_a_comma_before_the_bracket_is_accepted() -> None:
    body = """{
  "id": "basic-request",
  "space": 1,
  "origin":"https://example.org/interesting-image",
  "imageOptimisationPolicy": "https://my.dlcs/imageOptimisationPolicies/fastest",
  "thumbnailPolicy": "https://my.dlcs/thumbnailPolicies/museum",
}"""
    assert decode(body, 7).request.thumbnail_policy == "museum"
    kept = '{"id": "7/1/a,]\\",}", "tags": ["x" , ], }'
    assert decode(kept).request.id.name == 'a,]",}'


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * 120_000,
        b'"' + b'\\"' * 120_000 + b"\\",
        b",  " * 80_000,
        b"," + b" " * 250_000,
    ],
    ids=range(4),
)
def test_a_broken_text_is_refused_quickly(body: bytes) -> None:
    started = time.monotonic()
    assert refusal(body)
    assert time.monotonic() - started < 2 * patience()


@pytest.mark.parametrize(
    ("text", "name"),
    [("fastest", "fastest"), ("/p/max%20quality", "max quality"), ("https://h/a/b?x=1#y", "b")],
)
def test_a_policy_is_given_by_name_or_by_url(text: str, name: str) -> None:
    body = {"id": "1/1/a", "origin": ORIGIN, "thumbnailPolicy": text}
    assert decode(body).request.thumbnail_policy == name


# --- ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids",
    [
        {"id": {"customer": 99, "space": 1, "asset": "foo"}},
        {"ID": {"Customer": "99", "SPACE": 1.0, "Asset": "foo"}},
        {"id": {"space": 1, "asset": "foo"}, "customer": 99},
        {"id": "99/1/foo"},
        {"id": "99/1/foo", "customer": "99", "space": "1"},
        {"id": "foo", "space": 1, "customer": 99},
        {"id": "foo", "space": "1"},
        {"rawId": "foo", "space": 1},
        {"@id": "https://my.dlcs/customers/99/spaces/1/images/foo"},
        {"id": "99/1/foo", "@id": "https://elsewhere/customers/1/spaces/1/images/x"},
    ],
    ids=str,
)
def test_every_form_of_an_id_names_the_same_image(ids: dict[str, Any]) -> None:
    assert decode({**ids, "origin": ORIGIN}, 99).request.id == FOO


def test_a_name_can_contain_slashes() -> None:
    assert decode({"id": "a/b", "space": 1}, 5).request.id == AssetId(5, 1, "a/b")
    assert decode({"id": "5/1/a%2Fb"}).request.id == AssetId(5, 1, "a/b")
    named = {"customer": 5, "space": 1, "asset": "2/3/x"}
    assert decode({"id": named}).request.id == AssetId(5, 1, "2/3/x")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "id"),
        ({"id": "foo"}, "space"),
        ({"id": "foo", "space": 1}, "customer"),
        ({"id": "", "space": 1, "customer": 1}, "id"),
        ({"id": 5, "space": 1, "customer": 1}, "id"),
        ({"id": {"customer": 1, "space": 1}}, "asset"),
        ({"id": {"customer": 1, "space": "x", "asset": "a"}}, "space"),
        ({"id": {"customer": True, "space": 1, "asset": "a"}}, "whole number"),
        ({"id": {"customer": -1, "space": 1, "asset": "a"}}, "customer"),
        ({"id": "1/2/foo", "space": 3}, "space"),
        ({"id": "1/2/foo", "customer": 2}, "customer"),
        ({"id": "1/2/../foo"}, "id"),
        ({"id": "1/2/" + "x" * 230}, "id"),
        ({"id": "1/2/a\\b"}, "id"),
        ({"id": "1/2/a\x00b"}, "id"),
    ],
    ids=str,
)
def test_an_invalid_id_is_refused(body: dict[str, Any], word: str) -> None:
    assert word in refusal({**body, "origin": ORIGIN})


def test_the_body_can_repeat_the_asset_of_the_url_but_not_contradict_it() -> None:
    here = AssetId(1, 2, "a/b")
    for body in ({}, {"id": "a/b"}, {"id": "1/2/a%2Fb"}, {"space": 2}, {"id": "a/b", "space": 2}):
        assert decode({**body, "origin": ORIGIN}, asset_id=here).request.id == here
    for body in ({"id": "other"}, {"id": "1/3/a%2Fb"}, {"space": 3}, {"customer": 2}):
        assert "another" in refusal({**body, "origin": ORIGIN}, asset_id=here)


# --- properties ---------------------------------------------------------------------------------


def test_names_match_in_any_case_and_unknown_ones_are_ignored() -> None:
    body = {
        "ID": "99/1/foo",
        "oRIGIN": ORIGIN,
        "Roles": ["a", "b", "a"],
        "TAGS": "x, y,,",
        "string2": "two",
        "Number3": "-3",
        "maxunauthorised": "400",
        "mediaType": "image/tiff",
        "family": "I",
        "width": "nonsense",
        "deliveryChannels": [{"channel": "iiif-img"}],
        "": {},
    }
    assert decode(body).request == Request(
        FOO,
        ORIGIN,
        roles=("a", "b"),
        tags=("x", "y"),
        strings=("", "two", ""),
        numbers=(0, 0, -3),
        max_unauthorised=400,
    )


def test_null_is_the_same_as_a_missing_property() -> None:
    names = ("roles", "tags", "string1", "number1", "maxUnauthorised", "batchId", "force", "rights")
    body = {"id": "99/1/foo", "origin": ORIGIN, **dict.fromkeys(names)}
    assert decode(body) == Payload(Request(FOO, ORIGIN))


@pytest.mark.parametrize(
    ("batch", "expected"), [(123, 123), ("123", 123), (0, None), (-5, None), (None, None)]
)
def test_a_batch_id_of_zero_or_less_means_no_batch(batch: object, expected: int | None) -> None:
    assert decode({"id": "1/1/a", "batchId": batch}).batch == expected
    assert decode({"id": "1/1/a", "batch": batch}).batch == expected


def test_all_faults_are_reported_at_once() -> None:
    body = {"id": "1/1/a", "origin": 4, "roles": [1], "maxUnauthorised": -2, "number1": 2**70}
    faults = refusal(body).splitlines()
    assert {line.split(":")[0] for line in faults} == {
        "origin",
        "roles.0",
        "maxUnauthorised",
        "number1",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"origin": "nothing"},
        {"origin": "http://[::1"},
        {"origin": "https://h/a\nb"},
        {"origin": "https://h/" + "x" * 5000},
        {"tags": ["x"] * 101},
        {"tags": ["\ud800"]},
        {"strings": ["1", "2", "3", "4"]},
        {"numbers": [1.5]},
        {"batchId": "seven"},
        {"force": "perhaps"},
        {"string1": "x" * 3000},
        {"thumbnailPolicy": ["a"]},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_an_invalid_property_is_refused(fields: dict[str, Any]) -> None:
    assert next(iter(fields)) in refusal({"id": "1/1/a", **fields})


def test_a_request_without_an_origin_uses_the_recorded_origin() -> None:
    request = decode({"id": {"customer": 99, "space": 1, "asset": "foo"}, "batchId": 3}).request
    known = Asset(
        FOO,
        1,
        AssetState.READY,
        10,
        10,
        origin=ORIGIN,
        optimisation_policy="fastest",
        thumbnail_policy="museum",
    )
    assert complete_request(request, known) == Request(FOO, ORIGIN, "fastest", "museum")
    with pytest.raises(AssetNotFound):
        complete_request(request, None)
    with_origin = Request(FOO, "https://other/x")
    assert complete_request(with_origin, known) == with_origin


# --- envelopes ----------------------------------------------------------------------------------

PLAIN = {"id": "99/1/foo", "origin": ORIGIN}


def event(image: object = json.dumps(PLAIN), **parameters: object) -> dict[str, Any]:
    return {
        "_type": "event",
        "_created": "2014-01-01T00:00:00Z",
        "message": "event::image-ingest",
        "params": {"id": "99/1/foo", "customer": "99", "space": "1", "image": image, **parameters},
    }


def sns(message: object) -> dict[str, Any]:
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:x", "Message": message}


def test_an_sns_notification_a_legacy_event_and_both_together_are_unwrapped() -> None:
    plain = decode(PLAIN)
    legacy = {
        "id": "99/1/foo",
        "customer": 99,
        "space": 1,
        "rawId": "foo",
        "created": "2014-01-01T00:00:00Z",
        "origin": ORIGIN,
        "tags": None,
        "roles": None,
        "width": 0,
        "error": None,
        "batch": 0,
        "family": "I",
        "mediaType": "image/jp2",
    }
    spread = json.dumps(legacy, indent=1).replace("\n", "\r\n")
    for body in (
        sns(json.dumps(PLAIN)),
        event(),
        event(spread),
        sns(json.dumps(event(spread))),
        {"asset": PLAIN, "created": "2022-01-01"},
    ):
        assert decode(json.dumps(body)) == plain, body


@pytest.mark.parametrize(
    "body",
    [
        sns("no json"),
        sns(None),
        sns({"id": "1/1/a"}),
        sns('"text"'),
        event(None),
        event("no json"),
        event("[]"),
        event(PLAIN),
        {"_type": "event"},
        {"_type": "other", "params": {"image": json.dumps(PLAIN)}},
        {"_type": 5, "id": "1/1/a"},
        sns(json.dumps(sns(json.dumps(sns(json.dumps(sns(json.dumps(sns("{}"))))))))),
    ],
    ids=lambda body: str(body)[:60],
)
def test_an_envelope_without_a_payload_is_refused(body: dict[str, Any]) -> None:
    assert refusal(json.dumps(body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"5",
        b'"text"',
        b"{",
        b"\xff\xfe{}",
        b'{"id": "1/1/a", "id"}',
        b'{"id": NaN}',
        b'{"tags": ["\\ud800"], "id": "1/1/a"}',
        b'{"x":' * 100_000,
        b"[" * 200_000,
        b'{"x":"' + b"y" * MAX_BODY_BYTES + b'"}',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_not_a_payload_is_refused_with_a_sentence(body: bytes) -> None:
    assert refusal(body).endswith(".")


def test_a_byte_order_mark_does_not_matter() -> None:
    assert decode(b"\xef\xbb\xbf" + json.dumps(PLAIN).encode()) == decode(PLAIN)


# --- properties ---------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20).map(
    str.strip
)
words = texts.filter(bool)
integers = st.integers(-(2**63) + 1, 2**63 - 1)


@st.composite
def asset_ids(draw: st.DrawFn) -> AssetId:
    name = draw(st.text(max_size=12))
    try:
        return AssetId(draw(st.integers(1, 999_999_999)), draw(st.integers(0, 999_999_999)), name)
    except InvalidImageRequest:
        return AssetId(1, 1, "plain")


payloads = st.builds(
    Payload,
    st.builds(
        Request,
        asset_ids(),
        st.sampled_from(["", ORIGIN, "s3://eu-west-1/bucket/key", "/srv/a b"]),
        words.filter(lambda text: "/" not in text),
        st.just(""),
        roles=st.none() | st.lists(words, unique=True, max_size=5).map(tuple),
        max_unauthorised=st.none() | st.integers(-1, 2**31 - 1),
        strings=st.none() | st.tuples(texts, texts, texts),
        numbers=st.none() | st.tuples(integers, integers, integers),
        tags=st.none() | st.lists(words, unique=True, max_size=5).map(tuple),
        rights=st.none() | texts,
        force=st.booleans(),
    ),
    st.none() | st.integers(1, 2**63 - 1),
)


@given(payloads)
def test_an_encoded_payload_is_decoded_as_an_equal_one(payload: Payload) -> None:
    written = json.dumps(encode(payload))
    assert decode(written) == payload
    assert decode(json.dumps(sns(written))) == payload
    assert decode(json.dumps({k.upper(): v for k, v in encode(payload).items()})) == payload


NAMES = [
    "id",
    "ID",
    "@id",
    "customer",
    "space",
    "origin",
    "roles",
    "tags",
    "string1",
    "strings",
    "number2",
    "numbers",
    "maxUnauthorised",
    "batchId",
    "batch",
    "force",
    "imageOptimisationPolicy",
    "thumbnailPolicy",
    "rights",
    "_type",
    "params",
    "TopicArn",
    "Message",
    "asset",
    "mediaType",
]
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=10)
    | st.sampled_from(["1/1/a", "https://h/x", "event", "{}", "http://[", "//", "1/1/"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(NAMES), anything, max_size=8), st.none() | st.just(3))
def test_any_object_is_decoded_or_refused(body: Any, customer: int | None) -> None:
    try:
        payload = decode(body, customer)
    except InvalidInput as error:
        assert error.public
    else:
        assert decode(json.dumps(encode(payload))) == payload


@given(st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    try:
        decode(body, 1)
    except InvalidInput as error:
        assert error.public
