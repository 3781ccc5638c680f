"""How commands speak: tables or JSON for listings, a bar on a terminal and plain lines elsewhere
for long work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


class Tracker(Protocol):
    """Told of the progress of long work."""

    def found(self, total: int) -> None:
        """So many pieces of work there are in all."""
        ...

    def done(self, text: str, *, failed: bool = False) -> None:
        """One piece is done; `text` is one line about it."""
        ...


def say(text: str) -> None:
    """One line on standard output."""
    print(text, flush=True)


def warn(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


def show(value: Any) -> None:
    """Any value as indented JSON."""
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode())


def listing(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Rows as JSON with all they hold, or as a table of `columns`."""
    if as_json:
        show(list(rows))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console = Console(width=None if sys.stdout.isatty() else 200, soft_wrap=not sys.stdout.isatty())
    console.print(table, markup=False)


@contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Tracker]:
    """A bar where standard error is a terminal, else one plain line for each piece; nothing when
    `quiet`.
    """
    if quiet:
        yield _Silent()
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            yield _Bar(bar, title)


class _Silent:
    def found(self, total: int) -> None:
        """Keep quiet."""

    def done(self, text: str, *, failed: bool = False) -> None:
        """Keep quiet."""


class _Lines:
    def __init__(self) -> None:
        self._total, self._done = 0, 0

    def found(self, total: int) -> None:
        """Remember the total for the lines to come."""
        self._total = total

    def done(self, text: str, *, failed: bool = False) -> None:
        """Print one line."""
        self._done += 1
        warn(f"[{self._done}/{self._total}] {'failed: ' if failed else ''}{text}")


class _Bar:
    def __init__(self, bar: Progress, title: str) -> None:
        self._bar = bar
        self._task = bar.add_task(title, total=None, rate="")
        self._started = time.monotonic()

    def found(self, total: int) -> None:
        """Set the bar's length."""
        self._bar.update(self._task, total=total)

    def done(self, text: str, *, failed: bool = False) -> None:
        """Move the bar; failures are also printed above it."""
        self._bar.advance(self._task)
        minutes = max(time.monotonic() - self._started, 1e-9) / 60
        rate = self._bar.tasks[0].completed / minutes
        self._bar.update(self._task, rate=f"{rate:.0f}/min")
        if failed:
            self._bar.console.print(f"failed: {text}", style="red", markup=False, highlight=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)
