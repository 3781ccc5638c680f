"""The template of a named query, and the selection that it gives with the arguments of a request.

A template is pairs `key=value`, joined by `&`. What is wrong with it is said when it is stored: an
unknown key, a key that occurs twice, a pair without `=`, a value of the wrong type. A value `p1`,
`p2` ... is an argument of the request; every other text is itself. A text that begins with p is
written with a backslash, as is a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar
from urllib.parse import unquote

from orchestrator.catalog.asset_selection import OrderField, OrderName, Selection
from orchestrator.errors import InvalidInput

MAX_TEMPLATE_CHARS = 4000
MAX_ARGUMENTS = 50
FIXED_KEY, ORDER_KEYS = "#", ("assetOrder", "canvas")
TEXT_KEYS = ("s1", "s2", "s3", "spacename", "manifest")
NUMBER_KEYS = ("n1", "n2", "n3", "space", "batch")
LIST_KEYS = ("manifest", "batch")
"""Keys whose value is a list with commas: an asset with any of them is selected."""
KEYS = ("s1", "s2", "s3", "n1", "n2", "n3", "space", "spacename", "batch", "manifest")
_PROJECTION_KEYS = ("objectname", "coverpage", "redactedmessage")
_ORDER_FIELDS: Mapping[str, OrderName] = {
    "s1": "string1",
    "s2": "string2",
    "s3": "string3",
    "n1": "number1",
    "n2": "number2",
    "n3": "number3",
}
_ARGUMENT = re.compile(r"p([1-9][0-9]?)")
_NUMBER = re.compile(r"-?[0-9]{1,19}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LARGEST = {"space": 999_999_999}
_INT8 = 2**63 - 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of the request, counted from 1."""

    number: int


Value: TypeAlias = str | Argument


@dataclass(frozen=True, slots=True)
class BoundQuery:
    """What a named query selects with the arguments of one request. `space_name` is the name of a
    space of the customer, which the selection lacks.
    """

    selection: Selection
    space_name: str | None = None


@dataclass(frozen=True, slots=True)
class QueryTemplate:
    """A template without faults."""

    filters: Mapping[str, tuple[Value, ...]]
    """The values of each key. A key that is no list has one."""
    order: tuple[OrderField, ...] = ()
    fixed: tuple[str, ...] = ()
    """Arguments that follow those of the request."""

    @classmethod
    def parse(cls, text: str) -> QueryTemplate:
        """Read a template. Raises InvalidInput, which names every fault."""
        return _Parser(text).template

    def bind(self, customer: int, arguments: Sequence[str]) -> BoundQuery:
        """The selection with these arguments. A filter whose argument is missing is left out, and
        arguments that are not used are ignored. Raises InvalidInput if there are no arguments at
        all and one is used, or if one is not a number where a number is needed.
        """
        given = [*arguments, *self.fixed]
        used = [each for values in self.filters.values() for each in values]
        if not given and any(isinstance(each, Argument) for each in used):
            raise InvalidInput(
                "The named query needs arguments. Add them to the path, separated by /."
            )
        values = {key: _bound(key, parts, given) for key, parts in self.filters.items()}
        texts = [_first(values.get(key, [])) for key in ("s1", "s2", "s3")]
        numbers = [_first(_numbers(key, values)) for key in ("n1", "n2", "n3")]
        selection = Selection(
            customer=customer,
            spaces=tuple(_numbers("space", values)),
            batches=tuple(_numbers("batch", values)),
            manifests=tuple(values.get("manifest", [])),
            strings=(texts[0], texts[1], texts[2]),
            numbers=(numbers[0], numbers[1], numbers[2]),
            order=self.order,
            servable=True,
        )
        return BoundQuery(selection, _first(values.get("spacename", [])))


class _Parser:
    """Reads one template and collects its faults."""

    def __init__(self, text: str) -> None:
        self._faults: list[str] = []
        self._filters: dict[str, tuple[Value, ...]] = {}
        self._order: tuple[OrderField, ...] | None = None
        self._fixed: list[str] = []
        if len(text) > MAX_TEMPLATE_CHARS:
            raise InvalidInput(f"The template has more than {MAX_TEMPLATE_CHARS} characters.")
        for pair in text.split("&"):
            self._read_pair(pair)
        if "space" in self._filters and "spacename" in self._filters:
            self._faults.append("space and spacename: use one of them")
        if self._faults:
            raise InvalidInput("The template is not valid. " + "; ".join(self._faults) + ".")

    @property
    def template(self) -> QueryTemplate:
        """The template."""
        return QueryTemplate(self._filters, self._order or (), tuple(self._fixed))

    def _read_pair(self, pair: str) -> None:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not value.strip():
            self._faults.append(f"{pair[:40]!r}: write key=value")
        elif _BAD_ESCAPE.search(value):
            self._faults.append(f"{key}: write % as %25")
        elif key == FIXED_KEY:
            self._fixed.append(unquote(value))
        elif key in ORDER_KEYS:
            self._read_order(key, value)
        elif key in KEYS:
            self._read_filter(key, value)
        elif key in _PROJECTION_KEYS:
            self._faults.append(f"{key}: it belongs to PDF and ZIP files, which are not made here")
        else:
            known = ", ".join((*KEYS, ORDER_KEYS[0], FIXED_KEY))
            self._faults.append(f"{key[:40]!r} is not a key; the keys are {known}")

    def _read_filter(self, key: str, value: str) -> None:
        if key in self._filters:
            self._faults.append(f"{key}: it occurs more than once")
            return
        parts = value.split(",") if key in LIST_KEYS else [value]
        try:
            self._filters[key] = tuple(_read_value(key, part.strip()) for part in parts)
        except ValueError as fault:
            self._faults.append(f"{key}: {fault}")

    def _read_order(self, key: str, value: str) -> None:
        if self._order is not None:
            self._faults.append(f"{key}: there is an order already")
            return
        fields: list[OrderField] = []
        for part in value.replace("+", " ").split(";"):
            words = unquote(part).split()
            is_known = 1 <= len(words) <= 2 and words[0] in _ORDER_FIELDS
            if not is_known or words[1:] not in ([], ["asc"], ["desc"]):
                self._faults.append(
                    f"{key}: {part[:40]!r} is none of {', '.join(_ORDER_FIELDS)}, with asc or desc"
                    " after it"
                )
                return
            fields.append(OrderField(_ORDER_FIELDS[words[0]], words[1:] == ["desc"]))
        self._order = tuple(fields)


def _read_value(key: str, text: str) -> Value:
    """One value of a template. Raises ValueError, which says what to write."""
    argument = _ARGUMENT.fullmatch(text)
    if argument is not None:
        return Argument(int(argument[1]))
    if text.startswith("p") and text != "p":
        raise ValueError(
            f"{text[:40]!r} is no argument (p1 to p99); write \\{text[:40]} for the text"
        )
    literal = unquote(text)
    if literal.startswith("\\"):
        if literal[1:2] not in ("p", "\\"):
            raise ValueError("after a backslash write p or a second backslash")
        literal = literal[1:]
    if key in NUMBER_KEYS:
        _read_number(key, literal)
    return literal


def _read_number(key: str, text: str) -> int:
    """A number in the range of the key. Raises ValueError."""
    number = int(text) if _NUMBER.fullmatch(text.strip()) else None
    least = 0 if key in ("space", "batch") else -_INT8
    if number is None or not least <= number <= _LARGEST.get(key, _INT8):
        raise ValueError(f"{text[:40]!r} is not a number that it can have")
    return number


def _bound(key: str, parts: Sequence[Value], given: Sequence[str]) -> list[str]:
    """The texts of a key with these arguments, without those that are missing."""
    found: list[str] = []
    for part in parts:
        if isinstance(part, str):
            found.append(part)
        elif part.number <= len(given):
            text = given[part.number - 1]
            found += text.split(",") if key in LIST_KEYS else [text]
    return found


def _numbers(key: str, values: Mapping[str, Sequence[str]]) -> list[int]:
    try:
        return [_read_number(key, text) for text in values.get(key, [])]
    except ValueError as fault:
        raise InvalidInput(f"The argument for {key} is not valid: {fault}.") from fault


def _first(values: Sequence[T]) -> T | None:
    return values[0] if values else None
