"""Request models that select assets: the query of a search, and the filter of a bulk change."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError

from orchestrator.catalog.asset_selection import ORDER_NAMES, OrderField, Selection
from orchestrator.errors import InvalidInput
from orchestrator.ingest.payload.fields import (
    Fields,
    Number,
    Text,
    Texts,
    faults_of,
    whole_number,
)
from orchestrator.web.api.request_models import Paged, QueryText

_MAX_NUMBER = 2**62
_ORDER_NAMES = {name.lower(): name for name in ORDER_NAMES} | {"id": "name"}


class AssetFilter(Fields):
    """Which assets; an absent property selects all. An asset must match every given property."""

    q: Text | None = None
    """Words that occur in the name, the strings or the tags, or with which a word there begins. A
    JSON object selects by its properties instead: `{"string1": "x", "tags": ["a"]}`.
    """
    string1: Text | None = None
    """Assets with exactly this text; empty: with none."""
    string2: Text | None = None
    """Assets with exactly this text; empty: with none."""
    string3: Text | None = None
    """Assets with exactly this text; empty: with none."""
    number1: Number | None = None
    """Assets with this number."""
    number2: Number | None = None
    """Assets with this number."""
    number3: Number | None = None
    """Assets with this number."""
    tags: Texts | None = None
    """Assets with all these tags; a list, or one text with commas."""
    manifests: Texts | None = None
    """Assets that belong to one of these manifests."""
    batch: Annotated[int, Field(ge=1, le=_MAX_NUMBER), BeforeValidator(whole_number)] | None = None
    """Assets whose latest ingest belongs to this batch."""

    @property
    def is_empty(self) -> bool:
        """True if it selects every asset."""
        return all(getattr(self, name) is None for name in AssetFilter.model_fields)

    def to_selection(
        self,
        customer: int,
        spaces: tuple[int, ...] = (),
        names: tuple[str, ...] = (),
        order: tuple[OrderField, ...] = (),
    ) -> Selection:
        """Return the selection of a customer's assets. Raises InvalidInput for a `q` that cannot be
        read.
        """
        text, fields = self.q or "", self
        if text.startswith("{"):
            text, fields = "", self._with_properties_of(text)
        selection = Selection(
            customer=customer,
            spaces=spaces,
            names=names,
            batches=() if fields.batch is None else (fields.batch,),
            manifests=fields.manifests or (),
            strings=(fields.string1, fields.string2, fields.string3),
            numbers=(fields.number1, fields.number2, fields.number3),
            tags=fields.tags or (),
            text=text,
            order=order,
        )
        selection.words()  # raises for a text without words
        return selection

    def _with_properties_of(self, text: str) -> AssetFilter:
        try:
            given = AssetFilter.model_validate(json.loads(text))
        except ValidationError as error:
            raise InvalidInput("\n".join(f"q.{each}" for each in faults_of(error))) from error
        except (ValueError, RecursionError) as error:
            raise InvalidInput("q: is not a JSON object. Search for words instead.") from error
        own = {name: getattr(self, name) for name in AssetFilter.model_fields if name != "q"}
        return given.model_copy(
            update={name: value for name, value in own.items() if value is not None}
        )


class SearchQuery(AssetFilter, Paged):
    """The assets that are listed, and their order. Texts are short, because an address is."""

    q: QueryText | None = None
    """Words that occur in the name, the strings or the tags, or with which a word there begins. A
    JSON object selects by its properties instead: `{"string1": "x", "tags": ["a"]}`.
    """
    string1: QueryText | None = None
    """Assets with exactly this text; empty: with none."""
    string2: QueryText | None = None
    """Assets with exactly this text; empty: with none."""
    string3: QueryText | None = None
    """Assets with exactly this text; empty: with none."""
    after: QueryText = ""
    """The page begins after this name; only for a list by name, without a search."""
    cursor: Annotated[str, Field(max_length=4000)] = ""
    """Where the page begins: a value of `next` of the page before."""
    order_by: QueryText = ""
    """Names of properties, separated by commas: string1 to string3, number1 to number3, name,
    space, batch, created, updated. `-` before a name: descending. By default by name.
    """
    order_by_descending: QueryText = ""
    """The same, each descending."""

    @property
    def is_search(self) -> bool:
        """True if it selects or orders, or continues a list that does."""
        return bool(self.cursor or self.order_by or self.order_by_descending) or not self.is_empty

    def order(self) -> tuple[OrderField, ...]:
        """Return the order. Raises InvalidInput for an unknown name."""
        return (
            *_read_order("orderBy", self.order_by, descending=False),
            *_read_order("orderByDescending", self.order_by_descending, descending=True),
        )


def _read_order(parameter: str, text: str, *, descending: bool) -> list[OrderField]:
    fields = []
    for each in filter(None, (part.strip() for part in text.split(","))):
        name = _ORDER_NAMES.get(each.removeprefix("-").lower())
        if name is None:
            raise InvalidInput(
                f"{parameter}: cannot order by {each[:40]!r}. Use {', '.join(ORDER_NAMES)}."
            )
        fields.append(OrderField(name, descending=descending != each.startswith("-")))
    return fields
