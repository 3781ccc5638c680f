"""What an ingest payload may come wrapped in: an SNS notification, the event of the system before,
an `{asset: ...}`.

Bytes in, one JSON object out. Nothing in a body makes this raise anything but InvalidInput.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from orchestrator.errors import InvalidInput

MAX_BODY_BYTES = 256 * 1024
"""One message of SQS is no larger, and no picture needs more said of it."""
_TRAILING_COMMA = re.compile(rb'("(?:[^"\\]|\\.)*(?:"|\\?\Z))|,(?=\s*[}\]])', re.DOTALL)
"""Or a string, broken ones to the end of the text, so that no text takes more than one pass."""
_LAYERS = 4
"""Envelopes inside each other: SNS around an event around an asset, and one to spare."""


def read_json(body: bytes | str, max_bytes: int = MAX_BODY_BYTES) -> Any:
    """What a JSON text says, or one but for commas before a closing bracket, as the Engine's own
    document has them. Raises InvalidInput when it is too large, too deep or no JSON.
    """
    data = body.encode("utf-8", "replace") if isinstance(body, str) else body
    if len(data) > max_bytes:
        raise InvalidInput(f"The body is over {max_bytes} bytes.")
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        data = _TRAILING_COMMA.sub(lambda match: match[1] or b"", data)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            "The body is no JSON document; send an object such as"
            ' {"id": "name", "space": 1, "origin": "https://..."}.'
        ) from error


def opened(body: object) -> Mapping[str, Any]:
    """The ingest payload inside whatever envelopes it came in, as a text or parsed. Raises
    InvalidInput.
    """
    value: Any = read_json(body) if isinstance(body, bytes | str) else body
    for _ in range(_LAYERS):
        if not isinstance(value, Mapping):
            raise InvalidInput("The body should be a JSON object that describes one image.")
        inner = _inner(value)
        if inner is None:
            return value
        value = inner
    raise InvalidInput("The body is wrapped in too many envelopes; send the payload itself.")


def _inner(value: Mapping[str, Any]) -> Any:
    """What this envelope holds; None when it is none."""
    if "TopicArn" in value and "Message" in value:
        return _parsed(value["Message"], "Message", "The SNS notification")
    if "_type" in value:
        return _of_event(value)
    if "id" not in value and isinstance(value.get("asset"), Mapping):
        return value["asset"]
    return None


def _of_event(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The asset of a legacy event; what it leaves open, its parameters say (reference/engine.md
    3.2).
    """
    parameters = value.get("params")
    if value["_type"] != "event" or not isinstance(parameters, Mapping):
        raise InvalidInput("Of messages with a _type, events with params.image are understood.")
    image = _parsed(parameters.get("image"), "params.image", "The event")
    if not isinstance(image, Mapping):
        raise InvalidInput("The event's params.image is no JSON object that describes an image.")
    beside = {name: parameters[name] for name in ("id", "customer", "space") if name in parameters}
    return {**beside, **{name: each for name, each in image.items() if each is not None}}


def _parsed(text: object, name: str, what: str) -> Any:
    if not isinstance(text, str):
        raise InvalidInput(f"{what} has no text {name} with the payload in it.")
    try:
        return read_json(text.replace("\r", "").replace("\n", ""))
    except InvalidInput as error:
        raise InvalidInput(f"{what}'s {name} holds no JSON document.") from error
