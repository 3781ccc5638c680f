"""The properties of an ingest payload, for validation and for OpenAPI: names, types and limits.

Names are accepted in any case, numbers as text, lists as one text with commas. null is the same as
a missing property. Unknown properties are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from orchestrator.errors import InvalidInput
from orchestrator.origins.origin_address import scheme_of

MAX_ORIGIN_CHARS = 4000
MAX_TEXT_CHARS = 2000
MAX_LISTED = 100
_INT4, _INT8 = 2**31 - 1, 2**63 - 1
MAX_NUMBER = 999_999_999
"""Largest number of a customer or space: nine digits (model.AssetId)."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_SYNONYMS = {
    "batch": "batchId",
    "@id": "id",
    "rawid": "id",
    "imageoptimizationpolicy": "imageOptimisationPolicy",
    "maxunauthorized": "maxUnauthorised",
}


def whole_number(value: object) -> object:
    """Convert an integer written as text or as `3.0`; return other values to the validator."""
    if isinstance(value, bool):
        raise ValueError("must be a whole number")  # noqa: TRY004  pydantic wants a ValueError
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,19}\s*", value, re.ASCII):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def clean_text(value: str) -> str:
    """Return the stripped text. Raises ValueError for line breaks and other control characters,
    which would damage logs.
    """
    if _CONTROL.search(value):
        raise ValueError("must not contain line breaks or control characters")
    return value.strip()


def split_list(value: object) -> object:
    """Return a list of texts, or one text with commas, as a tuple without empty texts."""
    if isinstance(value, str):
        value = value.split(",")
    if isinstance(value, list | tuple):
        return tuple(each for each in value if not (isinstance(each, str) and not each.strip()))
    return value


def as_tuple(value: object) -> object:
    """Return a list as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def policy_name(value: str) -> str:
    """Return the name of a policy. Of a URL that is the last segment of the path."""
    if "/" not in value:
        return value
    try:
        path = urlsplit(value).path
    except ValueError as error:
        raise ValueError("must be the name or the URL of a policy") from error
    return clean_text(unquote(path.rstrip("/").rpartition("/")[2]))


def _check_origin(value: str) -> str:
    if value:
        try:
            scheme_of(value)
        except InvalidInput as error:
            raise ValueError(error.public) from error
    return value


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS), AfterValidator(clean_text)]
Texts = Annotated[
    tuple[Text, ...],
    Field(max_length=MAX_LISTED),
    BeforeValidator(split_list),
    AfterValidator(_distinct),
]
Policy = Annotated[Text, AfterValidator(policy_name)]
CustomerNumber = Annotated[int, Field(ge=1, le=MAX_NUMBER), BeforeValidator(whole_number)]
SpaceNumber = Annotated[int, Field(ge=0, le=MAX_NUMBER), BeforeValidator(whole_number)]
Number = Annotated[int, Field(ge=-_INT8, le=_INT8), BeforeValidator(whole_number)]
Edge = Annotated[int, Field(ge=-1, le=_INT4), BeforeValidator(whole_number)]
Given = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": 220},
                {
                    "type": "object",
                    "properties": {
                        "customer": {"type": "integer", "minimum": 1, "maximum": MAX_NUMBER},
                        "space": {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER},
                        "asset": {"type": "string", "minLength": 1},
                    },
                    "required": ["space", "asset"],
                },
            ]
        }
    ),
]


class Fields(BaseModel):
    """Property names match in any case, null is the same as a missing property, and unknown
    properties are ignored.
    """

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
        strict=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _normalise_names(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        known = {(field.alias or name).lower(): field.alias for name, field in _fields(cls)}
        known |= {name: alias for name, alias in _SYNONYMS.items() if alias in known.values()}
        properties: dict[str, Any] = {}
        # An exact name has precedence over another spelling, a name over a synonym.
        for name in sorted(value, key=lambda each: (each in _SYNONYMS, str(each))):
            alias = known.get(str(name).lower())
            if alias and value[name] is not None and (alias not in properties or name == alias):
                properties[alias] = value[name]
        return properties


def _fields(cls: type[BaseModel]) -> list[tuple[str, Any]]:
    return list(cls.model_fields.items())


class Metadata(Fields):
    """The description of an asset, and who may see how much of it."""

    roles: Texts | None = None
    """Roles that may see the whole image. Clients without one of these roles see what
    `maxUnauthorised` allows. A list, or one text with commas.
    """
    max_unauthorised: Edge | None = None
    """Longest edge in pixels that every client may see; 0 for nothing, -1 for no limit."""
    tags: Texts | None = None
    """Tags of your choice; a list, or one text with commas."""
    manifests: Texts | None = None
    """The manifests that the asset belongs to, by names of your choice; a list, or one text with
    commas. Named queries find assets by them.
    """
    strings: Annotated[tuple[Text, ...], Field(max_length=3), BeforeValidator(as_tuple)] | None = (
        None
    )
    """`string1`, `string2` and `string3` as a list."""
    string1: Text | None = None
    """A text of your choice."""
    string2: Text | None = None
    """A text of your choice."""
    string3: Text | None = None
    """A text of your choice."""
    numbers: (
        Annotated[tuple[Number, ...], Field(max_length=3), BeforeValidator(as_tuple)] | None
    ) = None
    """`number1`, `number2` and `number3` as a list."""
    number1: Number | None = None
    """A number of your choice."""
    number2: Number | None = None
    """A number of your choice."""
    number3: Number | None = None
    """A number of your choice."""
    rights: Text | None = None
    """URL of the rights statement."""

    def all_strings(self, before: Sequence[str] = ("", "", "")) -> tuple[str, str, str] | None:
        """Return the three strings, those not given as in `before`; None if none is given."""
        single = (self.string1, self.string2, self.string3)
        merged = _merge(self.strings, single, before, "")
        return None if merged is None else (merged[0], merged[1], merged[2])

    def all_numbers(self, before: Sequence[int] = (0, 0, 0)) -> tuple[int, int, int] | None:
        """Return the three numbers, those not given as in `before`; None if none is given."""
        single = (self.number1, self.number2, self.number3)
        merged = _merge(self.numbers, single, before, 0)
        return None if merged is None else (merged[0], merged[1], merged[2])


class Body(Metadata):
    """One asset to ingest."""

    id: Given = None
    """`customer/space/name`, an object `{customer, space, asset}`, or a name alone together with
    `space`.
    """
    customer: CustomerNumber | None = None
    """The customer that owns the asset; by default the customer of the API key."""
    space: SpaceNumber | None = None
    """The space of the asset, if `id` is a name alone."""
    origin: Annotated[
        str,
        Field(max_length=MAX_ORIGIN_CHARS),
        AfterValidator(clean_text),
        AfterValidator(_check_origin),
    ] = ""
    """The address of its bytes: `https://...`, `s3://...`, `sftp://...`, `ftp://...`. By default
    the recorded origin of the asset.
    """
    image_optimisation_policy: Policy = ""
    """The name or URL of the optimisation policy, which says how the tile-ready source is made. By
    default the default policy.
    """
    thumbnail_policy: Policy = ""
    """The name or URL of the thumbnail policy, which says which thumbnails are made. By default the
    default policy.
    """
    batch_id: Annotated[int, Field(le=_INT8), BeforeValidator(whole_number)] | None = None
    """The batch of the asset; 0 and less mean none."""
    force: bool = False
    """Ingest the asset even if the bytes of the origin have not changed."""
    media_type: Any = None
    """Accepted and ignored; the bytes decide."""
    family: Any = None
    """Accepted and ignored; the bytes decide."""


def faults_of(error: ValidationError) -> list[str]:
    """Return every fault of a body as `property: what to change`, without the values."""
    return [
        f"{'.'.join(str(part) for part in each['loc']) or 'body'}: {_sentence(each['msg'])}"
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _sentence(text: str) -> str:
    text = text.removeprefix("Value error, ").replace("Input should", "should", 1)
    return text.replace("valid tuple", "list").replace("Tuple should", "should", 1)


def _merge(
    as_list: Sequence[Any] | None, single: Sequence[Any], before: Sequence[Any], empty: Any
) -> list[Any] | None:
    """Return the three values: single properties have precedence over the list, and the list over
    the values before.
    """
    if as_list is None and not any(each is not None for each in single):
        return None
    base = list(before) if as_list is None else [*as_list, empty, empty, empty]
    return [base[at] if each is None else each for at, each in enumerate(single)]
