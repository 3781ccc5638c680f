"""The properties of an ingest payload: their names, forms and bounds, declared once for validation
and for OpenAPI.

Lenient in form: names in any case, numbers as text, lists as one text with commas, null as if it
were not there; properties we do not know are ignored.
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
"""Of a customer or space: nine digits (model.AssetId)."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_SYNONYMS = {
    "batch": "batchId",
    "@id": "id",
    "rawid": "id",
    "imageoptimizationpolicy": "imageOptimisationPolicy",
    "maxunauthorized": "maxUnauthorised",
}


def whole_number(value: object) -> object:
    """An integer written as text or as `3.0`; other things are left to the validator."""
    if isinstance(value, bool):
        raise ValueError("should be a whole number")  # noqa: TRY004  pydantic wants a ValueError
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,19}\s*", value, re.ASCII):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def clean_text(value: str) -> str:
    """Text without line breaks and other control characters, which no column or log should hold."""
    if _CONTROL.search(value):
        raise ValueError("should hold no line breaks or control characters")
    return value.strip()


def listed(value: object) -> object:
    """Several texts: a list, or one text with commas."""
    if isinstance(value, str):
        value = value.split(",")
    if isinstance(value, list | tuple):
        return tuple(each for each in value if not (isinstance(each, str) and not each.strip()))
    return value


def as_tuple(value: object) -> object:
    """A list as the tuple that is kept."""
    return tuple(value) if isinstance(value, list) else value


def policy_name(value: str) -> str:
    """A policy's name, which may be given as an address: its last path segment."""
    if "/" not in value:
        return value
    try:
        path = urlsplit(value).path
    except ValueError as error:
        raise ValueError("should be a policy's name or address") from error
    return clean_text(unquote(path.rstrip("/").rpartition("/")[2]))


def _checked_origin(value: str) -> str:
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
    BeforeValidator(listed),
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
    """Property names match in any case; null is as if it were not there; unknown ones are
    ignored.
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
    def _named(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        known = {(field.alias or name).lower(): field.alias for name, field in _fields(cls)}
        known |= {name: alias for name, alias in _SYNONYMS.items() if alias in known.values()}
        found: dict[str, Any] = {}
        # Exact names go before other spellings, proper names before synonyms.
        for name in sorted(value, key=lambda each: (each in _SYNONYMS, str(each))):
            alias = known.get(str(name).lower())
            if alias and value[name] is not None and (alias not in found or name == alias):
                found[alias] = value[name]
        return found


def _fields(cls: type[BaseModel]) -> list[tuple[str, Any]]:
    return list(cls.model_fields.items())


class Metadata(Fields):
    """What is said of an image, and who may see how much of it."""

    roles: Texts | None = None
    """Who may see it: without one of these, only what `maxUnauthorised` allows. A list, or one
    text with commas.
    """
    max_unauthorised: Edge | None = None
    """Longest edge in pixels that anyone may see; 0 nothing, -1 no limit."""
    tags: Texts | None = None
    """Words of your own; a list, or one text with commas."""
    strings: Annotated[tuple[Text, ...], Field(max_length=3), BeforeValidator(as_tuple)] | None = (
        None
    )
    """`string1`, `string2` and `string3` as a list."""
    string1: Text | None = None
    """A reference of your own."""
    string2: Text | None = None
    """A reference of your own."""
    string3: Text | None = None
    """A reference of your own."""
    numbers: (
        Annotated[tuple[Number, ...], Field(max_length=3), BeforeValidator(as_tuple)] | None
    ) = None
    """`number1`, `number2` and `number3` as a list."""
    number1: Number | None = None
    """A number of your own."""
    number2: Number | None = None
    """A number of your own."""
    number3: Number | None = None
    """A number of your own."""
    rights: Text | None = None
    """Address of the rights statement."""

    def all_strings(self, before: Sequence[str] = ("", "", "")) -> tuple[str, str, str] | None:
        """The three strings, those not given as `before`; None when none is given."""
        given = (self.string1, self.string2, self.string3)
        found = _three(self.strings, given, before, "")
        return None if found is None else (found[0], found[1], found[2])

    def all_numbers(self, before: Sequence[int] = (0, 0, 0)) -> tuple[int, int, int] | None:
        """The three numbers, those not given as `before`; None when none is given."""
        given = (self.number1, self.number2, self.number3)
        found = _three(self.numbers, given, before, 0)
        return None if found is None else (found[0], found[1], found[2])


class Body(Metadata):
    """One image to take in."""

    id: Given = None
    """`customer/space/name`, an object `{customer, space, asset}`, or the name alone beside
    `space`.
    """
    customer: CustomerNumber | None = None
    """Whose it is; the key's customer unless given."""
    space: SpaceNumber | None = None
    """The space it is in, where `id` is a name alone."""
    origin: Annotated[
        str,
        Field(max_length=MAX_ORIGIN_CHARS),
        AfterValidator(clean_text),
        AfterValidator(_checked_origin),
    ] = ""
    """Where its bytes are: `https://...`, `s3://...`, `sftp://...`, `ftp://...`. Without one, that
    of the image as it is known.
    """
    image_optimisation_policy: Policy = ""
    """How it is made tile-ready: a policy's name or address; the default unless given."""
    thumbnail_policy: Policy = ""
    """Which thumbnails are made: a policy's name or address; the default unless given."""
    batch_id: Annotated[int, Field(le=_INT8), BeforeValidator(whole_number)] | None = None
    """The batch it belongs to; 0 and below are none."""
    force: bool = False
    """Make everything anew even when the origin's bytes have not changed."""
    media_type: Any = None
    """Accepted; what the bytes are decides."""
    family: Any = None
    """Accepted; what the bytes are decides."""


def faults_of(error: ValidationError) -> list[str]:
    """Every fault of a body as `property: what to change`; nothing of its values is repeated."""
    return [
        f"{'.'.join(str(part) for part in each['loc']) or 'body'}: {_sentence(each['msg'])}"
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _sentence(text: str) -> str:
    text = text.removeprefix("Value error, ").replace("Input should", "should", 1)
    return text.replace("valid tuple", "list").replace("Tuple should", "should", 1)


def _three(
    together: Sequence[Any] | None, single: Sequence[Any], before: Sequence[Any], empty: Any
) -> list[Any] | None:
    if together is None and not any(each is not None for each in single):
        return None
    base = list(before) if together is None else [*together, empty, empty, empty]
    return [base[at] if each is None else each for at, each in enumerate(single)]
