"""Reads the bodies of the upload routes: a file in a multipart form, and fields in a form or in
JSON.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from orchestrator.errors import InvalidInput, TooLarge

FILE = "file"
_OTHER_PART_BYTES = 64 * 1024
_FIELDS_S = 30.0
_FORM = "multipart/form-data"
_JSON = "application/json"
_ONE_TEXT = "{} should be one text."

Fields = Mapping[str, Sequence[str]]
"""The texts of each field; a field may occur several times."""


async def read_file(request: web.Request) -> AsyncGenerator[bytes]:
    """The chunks of the first part of the form that is named `file`. What follows it is not read.

    Raises InvalidInput if there is none, or for a body that is no form; TooLarge for other parts.
    """
    if request.content_type != _FORM:
        raise InvalidInput("Send the file as multipart/form-data, in the part file.")
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise InvalidInput("The form has a part of parts. Send the file as one part.")
            if part.name == FILE:
                if part.filename is None:
                    raise InvalidInput("The part file has no file name. Send it as a file.")
                while chunk := await part.read_chunk():
                    yield part.decode(chunk)
                return
            await _skip(part)
    except (ValueError, RuntimeError, HttpProcessingError, web.RequestPayloadError) as error:
        raise InvalidInput("The form ends early or is damaged. Send it again.") from error
    raise InvalidInput("The form has no part file.")


async def read_fields(request: web.Request) -> Fields:
    """The fields of a form or of a JSON object. Raises InvalidInput, and aiohttp's errors for 408
    and 413.
    """
    try:
        async with asyncio.timeout(_FIELDS_S):
            if request.content_type == _JSON:
                return _json_fields(await request.read())
            form = await request.post()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error
    except (ValueError, HttpProcessingError, web.RequestPayloadError) as error:
        raise InvalidInput("The body is neither a form nor a JSON object.") from error
    fields: dict[str, list[str]] = {}
    for name, value in form.items():
        if not isinstance(value, str):
            raise InvalidInput(f"{name} should be a text, not a file.")
        fields.setdefault(name, []).append(value)
    return fields


def one(fields: Fields, name: str) -> str:
    """The text of a field, "" if it is missing. Raises InvalidInput if there are several."""
    texts = fields.get(name, ())
    if len(texts) > 1:
        raise InvalidInput(_ONE_TEXT.format(name))
    return texts[0] if texts else ""


def required(fields: Fields, name: str) -> str:
    """The text of a field. Raises InvalidInput if it is missing or empty."""
    text = one(fields, name)
    if not text:
        raise InvalidInput(f"{name} is missing.")
    return text


def _json_fields(body: bytes) -> Fields:
    """Raises ValueError for what is no JSON, InvalidInput for other values than texts."""
    document = json.loads(body)
    if not isinstance(document, dict):
        raise InvalidInput("The body should be a JSON object.")
    fields: dict[str, list[str]] = {}
    for name, value in document.items():
        values = value if isinstance(value, list) else [value]
        for each in values:
            if each is None:
                continue
            if isinstance(each, bool) or not isinstance(each, str | int):
                raise InvalidInput(f"{name} should be a text or a list of texts.")
            fields.setdefault(name, []).append(str(each))
    return fields


async def _skip(part: BodyPartReader) -> None:
    size = 0
    while chunk := await part.read_chunk():
        size += len(chunk)
        if size > _OTHER_PART_BYTES:
            raise TooLarge(f"Only the part {FILE} may be large.")
