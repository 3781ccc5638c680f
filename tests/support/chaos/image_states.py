"""What an image of the chaos run can be: absent, or a picture with rights. Its writer says which
changes it asks for and which were accepted; readers ask whether an answer can be.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

GRACE_S = 20.0
"""A change that was accepted just before its processes or the database were killed or stopped takes
effect within this time.
"""
PUBLIC, RESTRICTED = "public", "restricted"
State = tuple[int, str] | None
"""The number of a picture and its rights; None: there is no such image."""
ABSENT: State = None


class ImageStates:
    """The states in which an image can be now, or was a moment ago. Picture and rights are one
    state, so that no picture may show with the rights of another.
    """

    def __init__(self) -> None:
        self._until: dict[State, float] = {ABSENT: math.inf}
        self._lock = threading.Lock()

    def begin(self, state: State) -> None:
        """A change is requested. Narrower rights are in force before the new picture is."""
        with self._lock:
            if state is not None and state[1] == RESTRICTED:
                self._add_rights(RESTRICTED)
            self._until[state] = math.inf

    def begin_rights(self, rights: str) -> None:
        """A change of the rights alone is requested."""
        with self._lock:
            self._add_rights(rights)

    def settle(self, state: State) -> None:
        """The change is in force: other states may be seen only for GRACE_S more."""
        self._end(lambda other: other != state)

    def settle_rights(self, rights: str) -> None:
        """The change of the rights is in force."""
        self._end(lambda other: other is not None and other[1] != rights)

    def allows(self, since: float, picture: int | None, rights: str | None = None) -> bool:
        """True if a request that began at `since` may see this picture, None for no image; with
        `rights` only if the picture can have them.
        """
        with self._lock:
            seen = [each for each, until in self._until.items() if until > since]
        if picture is None:
            return ABSENT in seen
        return any(
            each is not None and each[0] == picture and rights in (None, each[1]) for each in seen
        )

    def allows_restricted(self, since: float) -> bool:
        """True if a request that began at `since` may find the image restricted."""
        with self._lock:
            return any(
                each is not None and each[1] == RESTRICTED and until > since
                for each, until in self._until.items()
            )

    def _add_rights(self, rights: str) -> None:
        """Whatever it can be now, it can have these rights."""
        for each, until in list(self._until.items()):
            if each is not None and until == math.inf:
                self._until[each[0], rights] = math.inf

    def _end(self, is_over: Callable[[State], bool]) -> None:
        end = time.monotonic() + GRACE_S
        with self._lock:
            for state, until in self._until.items():
                if is_over(state):
                    self._until[state] = min(until, end)


@dataclass
class ChaosImage:
    """An image: the states it can have, and what was accepted last."""

    name: str
    states: ImageStates = field(default_factory=ImageStates)
    last: State = ABSENT
    batch: int | None = None
    """The batch of the last accepted ingest, if its end was not seen."""

    @property
    def path(self) -> str:
        """Its path in the management API."""
        return f"/customers/1/spaces/1/images/{self.name}"

    def settle(self, state: State) -> None:
        """The last change is in force."""
        self.last, self.batch = state, None
        self.states.settle(state)
