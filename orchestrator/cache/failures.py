"""What is remembered of a failed flight: its kind and public sentence, for seconds, never as
success.

In memory for the process, and as a small file beside the flight's lock for the other processes of
the host. A note is written whole and renamed; one that does not parse is no note.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator import errors
from orchestrator.errors import OrchestratorError, Unavailable

_Plain = str | int | float | bool
_Field = _Plain | tuple[str, ...] | list[str]


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it can be told to another process; `until` is a time of the flight's clock, in
    seconds.
    """

    kind: str
    fields: Mapping[str, _Field]
    until: float

    @classmethod
    def of(cls, error: OrchestratorError, until: float) -> Failure:
        """Take down `error` to be repeated until `until`; only its plain fields travel, not its
        cause.
        """
        fields = vars(error).items()
        plain = {name: value for name, value in fields if isinstance(value, _Plain | tuple)}
        return cls(type(error).__name__, plain, until)

    def error(self) -> OrchestratorError:
        """A fresh error of the same class and fields; an unknown class is an Unavailable."""
        public = str(self.fields.get("public", "The image cannot be made now."))
        known = getattr(errors, self.kind, None)
        if not (isinstance(known, type) and issubclass(known, OrchestratorError)):
            return Unavailable(public)
        error = known.__new__(known, public)
        # Tuples come out of a note as lists.
        fields = {n: tuple(v) if isinstance(v, list) else v for n, v in self.fields.items()}
        vars(error).update(fields, public=public)
        return error


def write_note(path: Path, failure: Failure) -> None:
    """Leave the note for other processes; a folder that cannot be written costs them one
    repetition, no more.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    text = json.dumps(
        {"kind": failure.kind, "fields": dict(failure.fields), "until": failure.until}
    )
    with suppress(OSError):
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)


def read_note(path: Path) -> Failure | None:
    """The failure noted at `path`, whether or not its time is over; None when there is none that
    parses.
    """
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return Failure(str(note["kind"]), dict(note["fields"]), float(note["until"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
