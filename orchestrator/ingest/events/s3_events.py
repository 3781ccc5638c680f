"""Reads the events of a bucket: S3 notifications, EventBridge events, and either of them in an SNS
message. Pure.

Every record of a message is read. A record of another kind (a test event, a restored object) is
left out. Malformed messages raise InvalidInput.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from orchestrator.errors import InvalidInput
from orchestrator.ingest.payload.envelopes import read_json

MAX_EVENT_BYTES = 1024**2
"""A message of SNS has at most 256 KiB, and its JSON text is escaped once more in the envelope."""
_CREATED = re.compile(r"(?:s3:)?ObjectCreated:\w+")
_REMOVED = re.compile(r"(?:s3:)?(?:ObjectRemoved|LifecycleExpiration):\w+")
_BRIDGED = {"Object Created": False, "Object Deleted": True}
"""EventBridge's names of events, and whether they remove the object."""
_MALFORMED = "The message is not an event of a bucket. Send S3, SNS or EventBridge events."


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """An object was created (written, completed from parts, copied) or removed. `key` is decoded;
    `etag` has no quotes; `version` and `sequencer` are "" if the event has none.
    """

    bucket: str
    key: str
    etag: str = ""
    version: str = ""
    sequencer: str = ""
    is_removed: bool = False


def is_sns(message: object) -> bool:
    """True for a message of SNS with its envelope."""
    return isinstance(message, Mapping) and "TopicArn" in message and "Type" in message


def read_events(message: object) -> list[ObjectEvent]:
    """The events of a message, parsed from JSON, in its order. Raises InvalidInput if it is none of
    the known forms.
    """
    if is_sns(message):
        assert isinstance(message, Mapping)  # noqa: S101  is_sns
        message = read_json(_text(message, "Message"), MAX_EVENT_BYTES)
    if not isinstance(message, Mapping):
        raise InvalidInput(_MALFORMED)
    if isinstance(message.get("Records"), list):
        return [event for record in message["Records"] for event in _read_record(record)]
    if isinstance(message.get("detail"), Mapping) and "detail-type" in message:
        return list(_read_bridged(message))
    if message.get("Event") == "s3:TestEvent":
        return []
    raise InvalidInput(_MALFORMED)


def _read_record(record: object) -> Iterator[ObjectEvent]:
    """Read one record of an S3 notification. Its key is encoded like a form field (Amazon S3 User
    Guide, "Event message structure").
    """
    if not isinstance(record, Mapping):
        raise InvalidInput(_MALFORMED)
    name = _text(record, "eventName")
    is_removed = _REMOVED.fullmatch(name) is not None
    if not is_removed and not _CREATED.fullmatch(name):
        return
    details = _mapping(record, "s3")
    item = _mapping(details, "object")
    yield ObjectEvent(
        _text(_mapping(details, "bucket"), "name"),
        _decode(_text(item, "key")),
        _optional(item, "eTag").strip('"'),
        _optional(item, "versionId"),
        _optional(item, "sequencer"),
        is_removed,
    )


def _read_bridged(message: Mapping[str, Any]) -> Iterator[ObjectEvent]:
    """Read an EventBridge event. Its key is not encoded."""
    is_removed = _BRIDGED.get(_text(message, "detail-type"))
    if is_removed is None or message.get("source") != "aws.s3":
        return
    detail = _mapping(message, "detail")
    item = _mapping(detail, "object")
    yield ObjectEvent(
        _text(_mapping(detail, "bucket"), "name"),
        _text(item, "key"),
        _optional(item, "etag").strip('"'),
        _optional(item, "version-id"),
        _optional(item, "sequencer"),
        is_removed,
    )


def _decode(key: str) -> str:
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidInput("The key of an event is not UTF-8.") from error


def _mapping(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    if not isinstance(found, Mapping):
        raise InvalidInput(f"The event has no object {name}.")
    return found


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or not found or "\0" in found:
        raise InvalidInput(f"The event has no text {name}.")
    return found


def _optional(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) and "\0" not in found else ""
