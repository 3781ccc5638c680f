"""The base of every response model of the API, and the two shapes that many responses contain.

Field names are part of the API: they are written in camelCase and never change. A model reads its
values from the attributes of a catalogue value: `ImageOut.model_validate(asset)`. The docstring of
a field is its description in /openapi.json.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import AliasGenerator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class ResponseModel(BaseModel):
    """A JSON document that the API sends."""

    model_config = ConfigDict(
        frozen=True,
        from_attributes=True,
        alias_generator=AliasGenerator(serialization_alias=to_camel),
        validate_by_name=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def extend(cls, document: ResponseModel, **fields: Any) -> Self:
        """Return the fields of `document`, an instance of the parent model, and `fields`."""
        return cls.model_validate({**dict(document), **fields}, by_alias=False, by_name=True)


class Problem(ResponseModel):
    """Why a request was refused or failed."""

    error: str
    """A sentence for people."""
    status: int
    request_id: str
    """The same value as in the access log and in X-Request-Id."""
    code: str
    """A word for programs."""
    stage: str
    """The stage of the ingest that failed: fetch, convert, store and others; "" outside ingest."""
    retryable: bool
    """True if the same request can succeed later."""
    detail: str
    faults: list[str] | None = None
    """Every fault of a body that has several."""


class FaultOut(ResponseModel):
    """Why an ingest failed."""

    code: str
    stage: str
    retryable: bool
    detail: str
