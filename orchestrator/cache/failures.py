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
from dataclasses import dataclass
from pathlib import Path

from orchestrator import errors, metrics
from orchestrator.errors import OrchestratorError, Unavailable

NOTE = ".failed"
"""In the name of a note, after the name of the flight's lock file."""
_REMEMBERED_KEYS = 4096
_Plain = str | int | float | bool
_Field = _Plain | tuple[str, ...] | list[str]


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in a form that another process can read; `until` is a time of the flight's clock, in
    seconds.
    """

    kind: str
    fields: Mapping[str, _Field]
    until: float

    @classmethod
    def of(cls, error: OrchestratorError, until: float) -> Failure:
        """The failure for `error`, to be repeated until `until`; without the error's cause."""
        fields = vars(error).items()
        plain = {name: value for name, value in fields if isinstance(value, _Plain | tuple)}
        return cls(type(error).__name__, plain, until)

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
    ) -> None:
        """`remember` returns the seconds that a failure is repeated, 0 for not at all."""
        self.repeated = 0
        self._remember = remember
        self._now = now
        self._jitter = jitter
        self._failures: OrderedDict[str, Failure] = OrderedDict()

    def raise_remembered(self, key: str) -> None:
        """Raise the failure of `key` that this process remembers, if its time is not over."""
        failure = self._failures.get(key)
        if failure is None:
            return
        if failure.until > self._now():
            self._repeat(failure)
        del self._failures[key]

    def raise_noted(self, key: str, lock_path: Path) -> None:
        """Raise the failure of `key` that another process noted, if its time is not over."""
        path = _note_path(lock_path)
        note = read_note(path)
        if note is None:
            return
        if note.until > self._now():
            self._keep(key, note)
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
        failure = Failure.of(error, self._now() + seconds * (0.75 + 0.5 * self._jitter()))
        self._keep(key, failure)
        write_note(_note_path(lock_path), failure)

    def remove_if_over(self, path: Path) -> bool:
        """Remove the note at `path` if its time is over or it does not parse; True if it was
        removed. Raises OSError.
        """
        note = read_note(path)
        is_over = note is None or note.until <= self._now()
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
    text = json.dumps(
        {"kind": failure.kind, "fields": dict(failure.fields), "until": failure.until}
    )
    with suppress(OSError):
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)


def read_note(path: Path) -> Failure | None:
    """The failure in the note at `path`, whether its time is over or not; None if there is no note
    that parses.
    """
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return Failure(str(note["kind"]), dict(note["fields"]), float(note["until"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note_path(lock_path: Path) -> Path:
    return lock_path.with_name(lock_path.name + NOTE)
