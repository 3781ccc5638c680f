"""How commands print: tables or JSON for listings; for long work a progress bar on a terminal, and
plain lines elsewhere.
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
    """Shows the progress of long work."""

    def set_total(self, total: int) -> None:
        """Set how many pieces of work there are."""
        ...

    def advance(self, text: str, *, failed: bool = False) -> None:
        """Count one piece as done; `text` is one line about it."""
        ...


def print_line(text: str) -> None:
    """Print one line to standard output."""
    print(text, flush=True)


def print_warning(text: str) -> None:
    """Print one line to standard error."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print any value as indented JSON."""
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode())


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print `rows` as a table of `columns`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_format_cell(row.get(column)) for column in columns))
    is_terminal = sys.stdout.isatty()
    console = Console(width=None if is_terminal else 200, soft_wrap=not is_terminal)
    console.print(table, markup=False)


@contextmanager
def track_progress(title: str, *, quiet: bool = False) -> Iterator[Tracker]:
    """Show a progress bar if standard error is a terminal, else one plain line for each piece of
    work; nothing if `quiet`.
    """
    if quiet:
        yield _SilentTracker()
    elif not sys.stderr.isatty():
        yield _LineTracker()
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            yield _BarTracker(bar, title)


class _SilentTracker:
    def set_total(self, total: int) -> None:
        """Print nothing."""

    def advance(self, text: str, *, failed: bool = False) -> None:
        """Print nothing."""


class _LineTracker:
    def __init__(self) -> None:
        self._total, self._done = 0, 0

    def set_total(self, total: int) -> None:
        """Set the total that each line shows."""
        self._total = total

    def advance(self, text: str, *, failed: bool = False) -> None:
        """Print one line."""
        self._done += 1
        print_warning(f"[{self._done}/{self._total}] {'failed: ' if failed else ''}{text}")


class _BarTracker:
    def __init__(self, bar: Progress, title: str) -> None:
        self._bar = bar
        self._task = bar.add_task(title, total=None, rate="")
        self._started = time.monotonic()

    def set_total(self, total: int) -> None:
        """Set the length of the bar."""
        self._bar.update(self._task, total=total)

    def advance(self, text: str, *, failed: bool = False) -> None:
        """Move the bar; print failures above it."""
        self._bar.advance(self._task)
        minutes = max(time.monotonic() - self._started, 1e-9) / 60
        rate = self._bar.tasks[0].completed / minutes
        self._bar.update(self._task, rate=f"{rate:.0f}/min")
        if failed:
            self._bar.console.print(f"failed: {text}", style="red", markup=False, highlight=False)


def _format_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)
