"""Selections of assets: typed filters and an order, executed in the database in bounded pages.

Every value is a parameter of its statement; only constants of this module are part of its text. A
page begins after a cursor, so late pages cost no more than early ones. The indexes are those of
migration 0020.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import asyncpg
import orjson

from orchestrator.catalog.connection import Pool
from orchestrator.catalog.rows import COLUMNS, assets_of
from orchestrator.errors import InvalidInput
from orchestrator.model import Asset

MAX_WORDS = 16
STREAM_PAGE = 500
"""Assets that a stream has in memory at a time."""

OrderName = Literal[
    "customer",
    "space",
    "name",
    "string1",
    "string2",
    "string3",
    "number1",
    "number2",
    "number3",
    "batch",
    "created",
    "updated",
]
_ORDER_COLUMNS: dict[OrderName, tuple[str, str]] = {
    # (expression, type)
    "customer": ("customer", "int"),
    "space": ("space", "int"),
    "name": ("name", "text"),
    "string1": ('strings[1] COLLATE "C"', "text"),
    "string2": ('strings[2] COLLATE "C"', "text"),
    "string3": ('strings[3] COLLATE "C"', "text"),
    "number1": ("numbers[1]", "bigint"),
    "number2": ("numbers[2]", "bigint"),
    "number3": ("numbers[3]", "bigint"),
    "batch": ("coalesce(batch, 0)", "bigint"),
    "created": ("created", "timestamptz"),
    "updated": ("updated", "timestamptz"),
}
_PYTHON_TYPES: dict[str, type] = {
    "int": int,
    "bigint": int,
    "text": str,
    "timestamptz": datetime,
}
_SEPARATORS = re.compile("[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u007f]+")


@dataclass(frozen=True, slots=True)
class OrderField:
    """One field of an order."""

    name: OrderName
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Viewer:
    """Rights of who asks: roles (`*` for all) for the assets of one customer or (None) of all."""

    roles: tuple[str, ...]
    customer: int | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which assets, in which order. A filter that is None or empty selects every asset.

    `spaces`, `names`, `batches` and `manifests` match any of their values, `tags` must all be
    there. `text` matches assets with every word of it, or a word that begins so, in the name, the
    strings or the tags. After `order` come customer, space and name.
    """

    customer: int | None = None
    spaces: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    batches: tuple[int, ...] = ()
    manifests: tuple[str, ...] = ()
    strings: tuple[str | None, str | None, str | None] = (None, None, None)
    numbers: tuple[int | None, int | None, int | None] = (None, None, None)
    tags: tuple[str, ...] = ()
    text: str = ""
    order: tuple[OrderField, ...] = ()
    servable: bool = False
    """Leave out what has nothing to show: assets that are only declared, and refused ones."""
    viewers: tuple[Viewer, ...] | None = None
    """Leave out what none of these rights shows anything of, and what is not servable; without any,
    it is what the public sees. None: nothing is left out.
    """

    def words(self) -> list[str]:
        """The words of `text`. Raises InvalidInput if there are none, or too many."""
        words = [word[:64] for word in _SEPARATORS.split(self.text.replace("\0", " ")) if word]
        if self.text and not 0 < len(words) <= MAX_WORDS:
            raise InvalidInput(f"Search for 1 to {MAX_WORDS} words of letters or digits.")
        return words


@dataclass(frozen=True, slots=True)
class SelectedPage:
    """Assets in their order. `next` is the cursor of the next page, None after the last one."""

    assets: list[Asset]
    next: str | None


class AssetSelections:
    """Reads selections of assets. Every method raises CatalogUnavailable, and InvalidInput for a
    text or number that no column can hold.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(
        self, selection: Selection, *, after: str | None = None, skip: int = 0, limit: int = 100
    ) -> SelectedPage:
        """At most `limit` assets that follow the cursor `after`, without the first `skip` of them.
        Raises InvalidInput for a cursor that is not one of this order.

        The database orders all that follows the cursor, so a cursor costs less than skipping.
        """
        statement = _Statement(selection)
        order = _order_of(selection)
        if after is not None:
            statement.begin_after(order, _decode_cursor(after, order))
        values = ", ".join(f"{_expression(each)} AS o{n}" for n, each in enumerate(order))
        ordering = _ordering(order)
        names = ", ".join(f"o{n}" for n in range(len(order)))
        # The inner query reads only an index; the rows of the page alone are read from the table.
        rows = await self._pool.fetch(
            f"""SELECT {COLUMNS}, {names}, {statement.exactly} AS is_exact
                FROM (SELECT customer, space, name, {values} FROM assets WHERE {statement.where}
                    ORDER BY {ordering} LIMIT {statement.bind(limit + 1)} OFFSET {skip:d}) AS page
                JOIN assets USING (customer, space, name) ORDER BY {ordering}""",  # noqa: S608  constants
            *statement.values,
        )
        shown = rows[:limit]
        following = _encode_cursor(shown[-1], order) if len(rows) > limit and shown else None
        exact = (row for row in shown if row["is_exact"])
        return SelectedPage(await assets_of(exact), following)

    async def spaces(
        self, customer: int, viewers: tuple[Viewer, ...], *, after: int = -1, limit: int = 1000
    ) -> list[int]:
        """At most `limit` spaces above `after` in which these rights show something."""
        statement = _Statement(Selection(customer, viewers=viewers))
        first = f"SELECT assets.space FROM assets WHERE {statement.where} AND assets.space >"  # noqa: S608  constants
        rows = await self._pool.fetch(
            f"""WITH RECURSIVE seen AS (  -- each space by one step down the index
                    ({first} {statement.bind(after)} ORDER BY assets.space LIMIT 1)
                    UNION ALL
                    SELECT next.space FROM seen,
                        LATERAL ({first} seen.space ORDER BY assets.space LIMIT 1) AS next
                )
                SELECT space FROM seen LIMIT {statement.bind(limit)}""",  # noqa: S608  constants
            *statement.values,
        )
        return [row["space"] for row in rows]

    async def count(self, selection: Selection, *, at_most: int | None = None) -> int:
        """The number of assets; with `at_most` no more than that are counted."""
        statement = _Statement(selection)
        limit = "" if at_most is None else f" LIMIT {statement.bind(at_most)}"
        row = await self._pool.fetchrow(
            f"""SELECT count(*) AS number
                FROM (SELECT FROM assets WHERE {statement.where}{limit}) AS found""",  # noqa: S608  constants
            *statement.values,
        )
        return 0 if row is None else int(row["number"])

    async def stream(
        self, selection: Selection, *, after: str | None = None, page: int = STREAM_PAGE
    ) -> AsyncIterator[list[Asset]]:
        """All assets in lists of at most `page`. No connection is held between them, so a slow
        reader costs the database nothing.
        """
        while True:
            found = await self.page(selection, after=after, limit=page)
            if found.assets:
                yield found.assets
            if found.next is None:
                return
            after = found.next


class _Statement:
    """The conditions of a selection, and the values of their parameters."""

    def __init__(self, selection: Selection) -> None:
        self.values: list[Any] = []
        self._conditions: list[str] = []
        self._exact: list[str] = []
        self._add_places(selection)
        self._add_references(selection)
        self._add_texts(selection)
        self._add_viewer(selection)

    @property
    def where(self) -> str:
        """The conditions that indexes answer."""
        return " AND ".join(self._conditions) or "true"

    @property
    def exactly(self) -> str:
        """The comparisons of texts that are found by their hashes."""
        return " AND ".join(self._exact) or "true"

    def bind(self, value: object) -> str:
        """Add a parameter; return its place in the statement."""
        self.values.append(value)
        return f"${len(self.values)}"

    def begin_after(self, order: tuple[OrderField, ...], values: list[Any]) -> None:
        """Select what follows the row with these values in the order."""
        columns = [_ORDER_COLUMNS[each.name] for each in order]
        left = [expression for expression, _ in columns]
        right = [
            f"{self.bind(value)}::{kind}" for value, (_, kind) in zip(values, columns, strict=True)
        ]
        if not any(each.descending for each in order):
            self._conditions.append(f"({', '.join(left)}) > ({', '.join(right)})")
            return
        choices = []
        for n, each in enumerate(order):
            same = [f"{left[k]} = {right[k]}" for k in range(n)]
            sign = "<" if each.descending else ">"
            choices.append(" AND ".join([*same, f"{left[n]} {sign} {right[n]}"]))
        self._conditions.append(f"({' OR '.join(choices)})")

    def _add_places(self, selection: Selection) -> None:
        add = self._conditions.append
        if selection.customer is not None:
            add(f"customer = {self.bind(selection.customer)}::int")
        if len(selection.spaces) == 1:  # so that the rows of an index are in the order of names
            add(f"space = {self.bind(selection.spaces[0])}::int")
        elif selection.spaces:
            add(f"space = ANY ({self.bind(list(selection.spaces))}::int[])")
        if selection.names:
            add(f"name = ANY ({self.bind(list(selection.names))}::text[])")
        if selection.batches:
            add(f"batch = ANY ({self.bind(list(selection.batches))}::bigint[])")

    def _add_references(self, selection: Selection) -> None:
        add = self._conditions.append
        for n, text in enumerate(selection.strings, 1):
            if text == "":
                add(f"string{n}_hash IS NULL")
            elif text is not None:
                value = f"{self.bind(text)}::text"
                add(f"string{n}_hash = text_hash({value})")
                self._exact.append(f"strings[{n}] = {value}")
        for n, number in enumerate(selection.numbers, 1):
            if number is not None:
                add(f"numbers[{n}] = {self.bind(number)}::bigint")
                if number:  # what the partial index says
                    add(f"numbers[{n}] <> 0")

    def _add_texts(self, selection: Selection) -> None:
        add = self._conditions.append
        if selection.tags:
            tags = f"{self.bind(list(selection.tags))}::text[]"
            add(f"text_hashes(tags) @> text_hashes({tags}) AND tags <> '{{}}'")
            self._exact.append(f"tags @> {tags}")
        if selection.manifests:
            names = f"{self.bind(list(selection.manifests))}::text[]"
            add(f"text_hashes(manifests) && text_hashes({names}) AND manifests <> '{{}}'")
            self._exact.append(f"manifests && {names}")
        if words := selection.words():
            query = self.bind(" & ".join(_word_query(word) for word in words))
            add(f"search_words(name, strings, tags) @@ lower({query}::text)::tsquery")

    def _add_viewer(self, selection: Selection) -> None:
        viewers = selection.viewers
        if viewers is None:
            if selection.servable:
                self._conditions.append("visibility <> 0")
            return
        choices = ["visibility = 1", *(self._covered(viewer) for viewer in viewers)]
        self._conditions.append(f"({' OR '.join(choices)})")

    def _covered(self, viewer: Viewer) -> str:
        covered = "(visibility = 2"
        if viewer.customer is not None:
            covered += f" AND customer = {self.bind(viewer.customer)}::int"
        if "*" not in viewer.roles:
            covered += f" AND (roles = '{{}}' OR roles && {self.bind(list(viewer.roles))}::text[])"
        return covered + ")"


def _word_query(word: str) -> str:
    """A word as a part of a tsquery. Files of macOS have decomposed names, so both forms count."""
    forms = {unicodedata.normalize(form, word) for form in ("NFC", "NFD")} | {word}
    return "(" + " | ".join(f"'{each}':*" for each in sorted(forms)) + ")"


def _order_of(selection: Selection) -> tuple[OrderField, ...]:
    """The complete order: no two assets are equal in it."""
    order = {each.name: each for each in reversed(selection.order)}
    given = tuple(dict.fromkeys(order[each.name] for each in selection.order))
    last: tuple[OrderName, ...] = ("space", "name")
    if selection.customer is None:
        last = ("customer", *last)
    return given + tuple(OrderField(name) for name in last if name not in order)


def _ordering(order: tuple[OrderField, ...]) -> str:
    return ", ".join(f"o{n}{' DESC' if each.descending else ''}" for n, each in enumerate(order))


def _expression(field: OrderField) -> str:
    return _ORDER_COLUMNS[field.name][0]


def cursor_behind(asset: Asset) -> str:
    """The cursor behind an asset, of selections of its customer's assets without an order."""
    return _encode_values([asset.id.space, asset.id.name])


def _encode_cursor(row: asyncpg.Record, order: tuple[OrderField, ...]) -> str:
    return _encode_values([row[f"o{n}"] for n in range(len(order))])


def _encode_values(values: list[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


def _decode_cursor(text: str, order: tuple[OrderField, ...]) -> list[Any]:
    try:
        values = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return [
            _decode_value(value, _ORDER_COLUMNS[each.name][1])
            for value, each in zip(values, order, strict=True)
        ]
    except (ValueError, TypeError) as error:  # no base64, no JSON, no list, other types
        raise InvalidInput(
            "The cursor is not one of this list. Begin again with its first page."
        ) from error


def _decode_value(value: object, kind: str) -> object:
    if kind == "timestamptz" and isinstance(value, str):
        return datetime.fromisoformat(value)
    if type(value) is not _PYTHON_TYPES[kind]:
        raise TypeError("another type")
    return value


ORDER_NAMES: tuple[OrderName, ...] = get_args(OrderName)
