"""What the catalogue accepts and returns of pyramids, and the rule which change is new. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from orchestrator.errors import Fault

SourceState = Literal["queued", "done", "failed", "removed"]
SOURCE_STATES: tuple[SourceState, ...] = ("queued", "done", "failed", "removed")
Verdict = Literal["accepted", "repeated", "outdated"]
"""`repeated`: the change is known already; `outdated`: a later one is."""


@dataclass(frozen=True, slots=True)
class SourceObject:
    """An object of the source bucket."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class SourceChange:
    """An object was written or removed. `etag` has no quotes; `sequencer` orders the events of one
    key, "" if the change is not an event. `is_copyrighted`: None keeps what was known. `policies`
    identify the policy in force for pictures without and under copyright; None accepts pyramids of
    any policy as done. `retries`: the person who asks wants what failed to be tried
    again; `force`: what is done, too.
    """

    source: SourceObject
    etag: str = ""
    version: str = ""
    sequencer: str = ""
    is_removed: bool = False
    is_copyrighted: bool | None = None
    policies: tuple[str, str] | None = None
    retries: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of a change. `base` is the begin of the keys of the pyramids."""

    verdict: Verdict
    generation: int = 0
    base: str = ""
    is_pending: bool = False
    """True if the pyramid of a repeated change is not stored yet."""
    fault: Fault | None = None
    """Why the work for a repeated change failed."""


@dataclass(frozen=True, slots=True)
class PyramidSource:
    """A source and the state of its pyramids."""

    source: SourceObject
    base: str
    state: SourceState
    generation: int
    etag: str
    version: str
    sequencer: str
    is_copyrighted: bool
    made_with: str
    attempts: int
    fault: Fault | None
    job: int
    accepted: datetime
    finished: datetime | None
    pyramids: int
    """How many are stored."""


@dataclass(frozen=True, slots=True)
class StoredPyramid:
    """A pyramid in the image bucket. Its asset is in text form."""

    target: str
    page: int
    asset: str
    etag: str
    width: int
    height: int
    levels: int
    bytes: int


def judge(known: PyramidSource | None, change: SourceChange) -> Verdict:
    """Whether a change is new."""
    if known is None:
        return "accepted"
    is_later = False
    if change.sequencer and known.sequencer:
        order = _compare(change.sequencer, known.sequencer)
        if order <= 0:
            return "outdated" if order < 0 else "repeated"
        is_later = True
    if change.force:
        return "accepted"
    if change.is_removed:
        return "repeated" if known.state == "removed" else "accepted"
    return "accepted" if _is_new(known, change, is_later=is_later) else "repeated"


def _is_new(known: PyramidSource, change: SourceChange, *, is_later: bool) -> bool:
    """Whether an object that exists needs new pyramids. `is_later`: it was written again."""
    is_same = change.etag == known.etag if change.etag else change.version == known.version
    has_status = change.is_copyrighted is not None
    if not is_same or (has_status and change.is_copyrighted != known.is_copyrighted):
        return True
    match known.state:
        case "removed":
            return True
        case "failed":
            return is_later or change.retries
        case "done" if change.policies is not None:
            return known.made_with != change.policies[known.is_copyrighted]
        case _:
            return False


def _compare(one: str, other: str) -> int:
    """Compare two sequencers: hexadecimal texts, of which the shorter is filled with zeros at its
    end (Amazon S3 User Guide, "Event message structure").
    """
    length = max(len(one), len(other))
    left, right = one.upper().ljust(length, "0"), other.upper().ljust(length, "0")
    return (left > right) - (left < right)
