"""Reading the events of a bucket."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidInput
from orchestrator.ingest.events.s3_events import ObjectEvent, is_sns, read_events


def a_record(key: str, name: str = "ObjectCreated:Put", **item: str) -> dict[str, Any]:
    details = {"key": key, "eTag": "abc", "sequencer": "01", **item}
    return {"eventName": name, "s3": {"bucket": {"name": "rbsc"}, "object": details}}


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("red+flower.jpg", "red flower.jpg"),
        ("a%2Bb.jpg", "a+b.jpg"),
        ("100%25/%C3%BC.jpg", "100%/ü.jpg"),
        ("a%252Fb.jpg", "a%2Fb.jpg"),
        ("a%2Fb%20c.jpg", "a/b c.jpg"),
    ],
)
def test_the_key_of_an_s3_notification_is_decoded_once(encoded: str, key: str) -> None:
    [event] = read_events({"Records": [a_record(encoded)]})
    assert event == ObjectEvent("rbsc", key, "abc", "", "01")


def test_the_key_of_eventbridge_is_taken_as_it_is() -> None:
    message = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {
            "bucket": {"name": "rbsc"},
            "object": {"key": "a+b%2Fc.jpg", "etag": "abc", "version-id": "v", "sequencer": "02"},
        },
    }
    assert read_events(message) == [ObjectEvent("rbsc", "a+b%2Fc.jpg", "abc", "v", "02")]
    [removed] = read_events({**message, "detail-type": "Object Deleted"})
    assert removed.is_removed
    assert read_events({**message, "detail-type": "Object Tags Added"}) == []
    assert read_events({**message, "source": "my.application"}) == []


@pytest.mark.parametrize(
    ("name", "is_removed"),
    [
        ("ObjectCreated:Put", False),
        ("ObjectCreated:Post", False),
        ("ObjectCreated:Copy", False),
        ("ObjectCreated:CompleteMultipartUpload", False),
        ("s3:ObjectCreated:Put", False),
        ("ObjectRemoved:Delete", True),
        ("ObjectRemoved:DeleteMarkerCreated", True),
        ("LifecycleExpiration:Delete", True),
        ("LifecycleExpiration:DeleteMarkerCreated", True),
    ],
)
def test_every_kind_of_event_is_read(name: str, is_removed: bool) -> None:
    [event] = read_events({"Records": [a_record("a.jpg", name)]})
    assert event.is_removed is is_removed


@pytest.mark.parametrize("name", ["ObjectRestore:Completed", "ObjectTagging:Put", "TestEvent"])
def test_events_that_change_no_bytes_are_left_out(name: str) -> None:
    records = [a_record("a.jpg", name), a_record("b.jpg")]
    assert [event.key for event in read_events({"Records": records})] == ["b.jpg"]


def test_every_record_of_a_message_in_its_envelope_is_read() -> None:
    inner = {"Records": [a_record(f"{n}.jpg", versionId=f"v{n}") for n in range(5)]}
    message = {"Type": "Notification", "TopicArn": "arn", "Message": json.dumps(inner)}
    assert is_sns(message)
    assert [event.version for event in read_events(message)] == ["v0", "v1", "v2", "v3", "v4"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ("Records", "eventName", "s3", "object", "bucket", "key", "detail", "Message")
                )
                | st.text(),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_document_is_read_or_refused(message: Any) -> None:
    with suppress(InvalidInput):
        assert isinstance(read_events(message), list)
