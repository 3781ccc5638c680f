"""Failures of flights, remembered for some seconds by kind and public message, never as success.

A failure is in memory for its process, and in a small file (a note) beside the flight's lock for
the other processes of the host. A note is written whole and renamed; a note that does not parse is
ignored.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import errors, metrics
from orchestrator.errors import OrchestratorError, Unavailable

NOTE = ".failed"
"""In the name of a note, after the name of the flight's lock file."""
_REMEMBERED_KEYS = 4096
_ROUNDING_S = 0.001
"""More than the error of a sum of seconds since 1970."""
_Plain = str | int | float | bool
_Field = _Plain | tuple[str, ...] | list[str]


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in a form that another process can read. `until` is a time in seconds: in memory of
    the monotonic clock, in a note of the wall clock, which all processes share. `for_s` is how long
    it is remembered at most: a wall clock that was set back does not make that longer.
    """

    kind: str
    fields: Mapping[str, _Field]
    until: float
    for_s: float = float("inf")

    def remaining_s(self, now: float) -> float:
        """Return the seconds for which the failure is still repeated, 0 if its time is over or
        cannot be true.
        """
        remaining_s = self.until - now
        return remaining_s if 0 < remaining_s <= self.for_s + _ROUNDING_S else 0.0

    @classmethod
    def of(cls, error: OrchestratorError, until: float, for_s: float = float("inf")) -> Failure:
        """The failure for `error`, to be repeated until `until`; without the error's cause."""
        fields = vars(error).items()
        plain = {name: value for name, value in fields if isinstance(value, _Plain | tuple)}
        return cls(type(error).__name__, plain, until, for_s)

    def error(self) -> OrchestratorError:
        """A new error of the same class and fields; Unavailable if the class is unknown."""
        public = str(self.fields.get("public", "The image cannot be made now."))
        known = getattr(errors, self.kind, None)
        if not (isinstance(known, type) and issubclass(known, OrchestratorError)):
            return Unavailable(public)
        error = known.__new__(known, public)
        # JSON has no tuples: in a note they are lists.
        fields = {n: tuple(v) if isinstance(v, list) else v for n, v in self.fields.items()}
        vars(error).update(fields, public=public)
        return error


class FailureMemory:
    """The failures of one set of flights."""

    def __init__(
        self,
        remember: Callable[[BaseException], float],
        now: Callable[[], float],
        jitter: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """`remember` returns the seconds that a failure is repeated, 0 for not at all. `now` is the
        monotonic clock of this process, `wall_clock` that of all processes of the host.
        """
        self.repeated = 0
        self._remember = remember
        self._now = now
        self._wall_clock = wall_clock
        self._jitter = jitter
        self._failures: OrderedDict[str, Failure] = OrderedDict()

    def raise_remembered(self, key: str) -> None:
        """Raise the failure of `key` that this process remembers, if its time is not over."""
        failure = self._failures.get(key)
        if failure is None:
            return
        if failure.remaining_s(self._now()) > 0:
            self._repeat(failure)
        del self._failures[key]

    def raise_noted(self, key: str, lock_path: Path) -> None:
        """Raise the failure of `key` that another process noted, if its time is not over."""
        path = _note_path(lock_path)
        note = read_note(path)
        if note is None:
            return
        remaining_s = note.remaining_s(self._wall_clock())
        if remaining_s > 0:
            self._keep(key, replace(note, until=self._now() + remaining_s))
            self._repeat(note)
        with suppress(OSError):
            path.unlink()

    def remember(self, key: str, lock_path: Path, error: Exception) -> None:
        """Remember a failure for callers of all processes. Called under the host lock, so the next
        holder of the lock reads the note first.
        """
        seconds = self._remember(error)
        if seconds <= 0 or not isinstance(error, OrchestratorError):
            return
        seconds *= 0.75 + 0.5 * self._jitter()
        failure = Failure.of(error, self._now() + seconds, seconds)
        self._keep(key, failure)
        write_note(_note_path(lock_path), replace(failure, until=self._wall_clock() + seconds))

    def remove_if_over(self, path: Path) -> bool:
        """Remove the note at `path` if its time is over or it does not parse; True if it was
        removed. Raises OSError.
        """
        note = read_note(path)
        is_over = note is None or not note.remaining_s(self._wall_clock())
        if is_over:
            path.unlink()
        return is_over

    def _repeat(self, failure: Failure) -> None:
        self.repeated += 1
        metrics.FLIGHTS.labels(role="repeated").inc()
        raise failure.error()

    def _keep(self, key: str, failure: Failure) -> None:
        self._failures[key] = failure
        self._failures.move_to_end(key)
        while len(self._failures) > _REMEMBERED_KEYS:
            self._failures.popitem(last=False)


def write_note(path: Path, failure: Failure) -> None:
    """Write the note for other processes. If the folder cannot be written, each of them repeats the
    work once.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    note = {"kind": failure.kind, "fields": dict(failure.fields)}
    text = json.dumps({**note, "until": failure.until, "for_s": failure.for_s})
    with suppress(OSError):
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)


def read_note(path: Path) -> Failure | None:
    """The failure in the note at `path`, whether its time is over or not; None if there is no note
    that parses.
    """
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        times = float(note["until"]), float(note["for_s"])
        return Failure(str(note["kind"]), dict(note["fields"]), *times)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note_path(lock_path: Path) -> Path:
    return lock_path.with_name(lock_path.name + NOTE)
