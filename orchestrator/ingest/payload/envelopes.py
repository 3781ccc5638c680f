"""The envelopes that may contain an ingest payload: an SNS notification, a legacy event,
`{asset: ...}`.

Reads bytes and returns one JSON object. Raises nothing but InvalidInput for any body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from orchestrator.errors import InvalidInput

MAX_BODY_BYTES = 256 * 1024
"""The largest message of SQS; the payload of one asset is much smaller."""
_TRAILING_COMMA = re.compile(rb'("(?:[^"\\]|\\.)*(?:"|\\?\Z))|,(?=\s*[}\]])', re.DOTALL)
"""A comma before a closing bracket, or a whole string, which is kept. A string without an end
matches to the end of the text, so any text takes only one pass.
"""
_MAX_ENVELOPES = 4
"""SNS that contains an event that contains an asset, and one more."""


def read_json(body: bytes | str, max_bytes: int = MAX_BODY_BYTES) -> Any:
    """Return the value of a JSON text. A comma before a closing bracket is accepted, because
    existing clients send it. Raises InvalidInput if the text is too large, nested too deeply or not
    JSON.
    """
    data = body.encode("utf-8", "replace") if isinstance(body, str) else body
    if len(data) > max_bytes:
        raise InvalidInput(f"The body is larger than {max_bytes} bytes. Send a smaller one.")
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        data = _TRAILING_COMMA.sub(lambda match: match[1] or b"", data)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            "The body is not a JSON document. Send an object such as"
            ' {"id": "name", "space": 1, "origin": "https://..."}.'
        ) from error


def unwrap(body: object) -> Mapping[str, Any]:
    """Return the ingest payload without its envelopes; `body` is bytes, text or parsed JSON. Raises
    InvalidInput.
    """
    value: Any = read_json(body) if isinstance(body, bytes | str) else body
    for _ in range(_MAX_ENVELOPES):
        if not isinstance(value, Mapping):
            raise InvalidInput("The body must be a JSON object that describes one asset.")
        content = _content(value)
        if content is None:
            return value
        value = content
    raise InvalidInput("The body has too many envelopes. Send the payload without them.")


def _content(value: Mapping[str, Any]) -> Any:
    """Return the content of this envelope; None if it is not an envelope."""
    if "TopicArn" in value and "Message" in value:
        return _read_text(value["Message"], "Message", "The SNS notification")
    if "_type" in value:
        return _event_content(value)
    if "id" not in value and isinstance(value.get("asset"), Mapping):
        return value["asset"]
    return None


def _event_content(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the asset of a legacy event. Properties that the asset does not have come from the
    parameters of the event.
    """
    parameters = value.get("params")
    if value["_type"] != "event" or not isinstance(parameters, Mapping):
        raise InvalidInput("A message with a _type must be an event with params.image.")
    image = _read_text(parameters.get("image"), "params.image", "The event")
    if not isinstance(image, Mapping):
        raise InvalidInput(
            "The event's params.image must be a JSON object that describes an asset."
        )
    defaults = {
        name: parameters[name] for name in ("id", "customer", "space") if name in parameters
    }
    return {**defaults, **{name: each for name, each in image.items() if each is not None}}


def _read_text(text: object, name: str, what: str) -> Any:
    if not isinstance(text, str):
        raise InvalidInput(f"{what} has no text {name} that contains the payload.")
    try:
        return read_json(text.replace("\r", "").replace("\n", ""))
    except InvalidInput as error:
        raise InvalidInput(f"{what}'s {name} is not a JSON document.") from error
