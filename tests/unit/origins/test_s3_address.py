"""The spellings of the address of an object in a bucket."""

from __future__ import annotations

import json
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.errors import InvalidInput
from orchestrator.origins.credentials import parse_credentials
from orchestrator.origins.origin_kinds import OriginKind
from orchestrator.origins.own_data import OwnData
from orchestrator.origins.reader_types import OriginAccess
from orchestrator.origins.s3_address import BucketObject, is_region, parse_address, parse_link
from orchestrator.origins.s3_reader import S3Reader
from orchestrator.settings import Ingest
from orchestrator.storage.customer_buckets import BucketReader, S3Login, S3Object


@pytest.mark.parametrize(
    ("address", "region"),
    [
        ("s3://eu-west-1/bucket/a/key.jpg", "eu-west-1"),
        ("s3://us-gov-west-1/bucket/a/key.jpg", "us-gov-west-1"),
        ("s3://bucket/a/key.jpg", ""),
        ("http://s3-eu-west-1.amazonaws.com/bucket/a/key.jpg", "eu-west-1"),
        ("https://s3.eu-west-1.amazonaws.com/bucket/a/key.jpg", "eu-west-1"),
        ("https://s3.dualstack.eu-west-1.amazonaws.com/bucket/a/key.jpg", "eu-west-1"),
        ("http://bucket.s3.amazonaws.com/a/key.jpg", ""),
        ("https://bucket.s3.amazonaws.com/a/key.jpg", ""),
        ("https://bucket.s3.eu-west-1.amazonaws.com/a/key.jpg", "eu-west-1"),
        ("https://bucket.s3-eu-west-1.amazonaws.com/a/key.jpg", "eu-west-1"),
        ("https://s3.amazonaws.com/bucket/a/key.jpg", ""),
        ("HTTPS://S3.amazonaws.com/bucket/a/key.jpg", ""),
        ("https://minio.example.org:9000/bucket/a/key.jpg", ""),
    ],
)
def test_every_spelling_names_the_same_object(address: str, region: str) -> None:
    parsed = parse_address(address, "https://minio.example.org:9000")
    assert parsed == BucketObject("bucket", "a/key.jpg", region)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("s3://bucket/a%20b.jpg", "a b.jpg"),
        ("s3://bucket/a b.jpg", "a b.jpg"),
        ("s3://bucket/100%25.jpg", "100%.jpg"),
        ("s3://bucket/100%.jpg", "100%.jpg"),
        ("s3://bucket/a+b#c.jpg", "a+b#c.jpg"),
        ("s3://bucket/b%C3%A4ume.jpg", "bäume.jpg"),
        ("https://bucket.s3.amazonaws.com/a%3Fb.jpg?X-Amz-Signature=1", "a?b.jpg"),
        ("https://s3.amazonaws.com/bucket/a.jpg#top", "a.jpg"),
        (
            "s3://eu-west-1/key-of-a-bucket-named-like-a-region",
            "key-of-a-bucket-named-like-a-region",
        ),
    ],
)
def test_keys_are_percent_decoded_and_queries_removed(address: str, key: str) -> None:
    assert parse_address(address).key == key


@pytest.mark.parametrize(
    "address",
    [
        "",
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3:///key",
        "s3://bucket/a/../b",
        "s3://bucket/%2e%2e/b",
        "s3://bucket/a%00b",
        "s3://bucket/%ff",
        "s3://bucket/" + "x" * 1025,
        "s3://user@bucket/key",
        "https://example.org/bucket/key",
        "https://s3.amazonaws.com.example.org/bucket/key",
        "https://example.org/s3.amazonaws.com/bucket/key",
        "https://[::1/bucket/key",
        "ftp://bucket/key",
        "/bucket/key",
    ],
)
def test_any_other_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput):
        parse_address(address)


def test_a_link_must_have_the_scheme_s3() -> None:
    with pytest.raises(InvalidInput):
        parse_link("https://bucket.s3.amazonaws.com/key")


@pytest.mark.parametrize("name", ["eu-west-1", "us-gov-west-1", "ap-southeast-2"])
def test_a_region_of_aws_is_a_region(name: str) -> None:
    assert is_region(name)


@given(
    st.text(min_size=1, max_size=60),
    st.sampled_from(["", "eu-west-1", "us-gov-west-1", "auto", "fr-par", "nyc3"])
    | st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True),
)
@example("scans/a.jp2", "auto")
@example("/", "eu-west-1")
def test_the_location_of_an_object_parses_as_that_object(key: str, region: str) -> None:
    named = BucketObject("bucket", key, region if is_region(region) else "")
    try:
        key.encode()
    except UnicodeEncodeError:
        return
    if "\0" in key or any(part in (".", "..") for part in key.split("/")):
        return
    assert parse_address(named.location()) == named


class FakeBuckets:
    """A service with one object."""

    async def head(self, login: S3Login, bucket: str, key: str) -> S3Object:
        return S3Object(5, '"e"', "")


@pytest.mark.parametrize("region", ["auto", "fr-par", "nyc3", "us-east-1", "eu-central-2"])
async def test_a_located_object_is_found_again_with_any_name_of_a_region(
    region: str,
) -> None:
    reader = S3Reader(Ingest(), cast("BucketReader", FakeBuckets()), OwnData())
    values = {"access_key": "a", "secret_key": "b", "endpoint": "https://x.example"}
    access = OriginAccess(OriginKind.S3, parse_credentials(json.dumps(values | {"region": region})))
    located = await reader.locate("s3://museum/scans/a.jp2", access)
    parsed = parse_address(located.location)
    assert (parsed.bucket, parsed.key) == ("museum", "scans/a.jp2")
    assert parsed.region == (region if is_region(region) else "")
