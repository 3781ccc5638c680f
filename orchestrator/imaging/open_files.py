"""An LRU cache of what is open of files: headers, decoders, decoded pixels. It has a byte budget.

A key is a tuple that begins with the path. What leaves the cache is closed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from orchestrator.imaging.jpeg2000.reader import Reader
from orchestrator.imaging.tiff.stored_tiles import StoredTiles

Key = tuple[object, ...]

MAX_ENTRIES = 64
_SMALL_SHARE = 64
"""An entry of up to this fraction (1/n) of the budget is small: the headers of a file, for example.
"""


class OpenFiles:
    """Entries of many types, each with its estimated size in bytes.

    When the sum exceeds the budget, the least recently used entries leave. One entry always stays,
    even if it alone exceeds the budget. A small entry removes no other by its bytes: otherwise the
    headers of a picture, opened again, would remove the picture that alone exceeds the budget.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Key, tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def get_or_open(self, key: Key, open_entry: Callable[[], tuple[Any, int]]) -> Any:
        """The entry of `key`. If there is none, `open_entry` makes it: (entry, bytes)."""
        cached = self._entries.get(key)
        if cached is not None:
            self._entries.move_to_end(key)
            return cached[0]
        cached = open_entry()
        self._entries[key] = cached
        self._bytes += cached[1]
        is_small = cached[1] <= self.max_bytes // _SMALL_SHARE
        while len(self._entries) > 1 and (
            (self._bytes > self.max_bytes and not is_small) or len(self._entries) > MAX_ENTRIES
        ):
            self.drop(next(iter(self._entries)))
        return cached[0]

    def peek(self, key: Key) -> Any | None:
        """The entry of `key`, or None. This does not count as a use."""
        cached = self._entries.get(key)
        return cached[0] if cached is not None else None

    def forget(self, path: str) -> None:
        """Drop all entries of the file at `path`."""
        for key in [key for key in self._entries if key[0] == path]:
            self.drop(key)

    def drop(self, key: Key) -> None:
        """Remove the entry of `key`, if there is one, and close it."""
        entry, size = self._entries.pop(key, (None, 0))
        self._bytes -= size
        if isinstance(entry, Reader | StoredTiles):
            entry.close()
