"""The bodies of the chaos run whose pixels were compared with their picture, by SHA-256: each later
answer is compared byte for byte with one of them, or pixel by pixel with the picture.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, defaultdict

from tests.support.chaos.chaos_pictures import Region, picture_shown

_MAX_BODIES = 4
"""How many bodies may answer one request for one picture: cut from the source, from a thumbnail,
from the original that is not converted yet, and from a promoted pyramid.
"""


class KnownAnswers:
    """Used from several threads."""

    def __init__(self) -> None:
        self._pictures: dict[tuple[str, bytes], int] = {}
        self._bodies: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._lock = threading.Lock()
        self.equal = 0
        """Answers that were equal to an earlier one byte for byte."""

    def picture_of(self, request: str, body: bytes, region: Region | None) -> int | None:
        """The picture that the answer to a request shows, see `picture_shown`."""
        key = request, hashlib.sha256(body).digest()
        with self._lock:
            if key in self._pictures:
                self.equal += 1
                return self._pictures[key]
        picture = picture_shown(body, region)
        if picture is not None:
            with self._lock:
                if key not in self._pictures:
                    self._pictures[key] = picture
                    self._bodies[request, picture] += 1
        return picture

    def check(self) -> None:
        """Raise AssertionError if a request for one picture had more bodies than there are ways to
        make it.
        """
        assert self.equal > len(self._pictures), "no answer was compared byte for byte"
        many = {each: count for each, count in self._bodies.items() if count > _MAX_BODIES}
        assert not many, many

    def __str__(self) -> str:
        counts = Counter(self._bodies.values())
        return (
            f"{self.equal} answers equal byte for byte to one of {len(self._pictures)} bodies whose"
            f" pixels were compared; bodies of each request and picture: {dict(counts)}"
        )
