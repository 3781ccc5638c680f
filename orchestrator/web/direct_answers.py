"""Answers of the hot lane that are not in memory but need not wait for anything: a file of the disk
cache that is in the page cache, a tile that a pyramid on this host holds ready.

Nothing here raises for a request: what cannot be answered at once takes aiohttp's way, which also
reports its errors.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.cache.disk.body_files import BodyFile, BodyFiles
from orchestrator.cache.hot.tier import HotTier
from orchestrator.routing.delivery_types import Delivery
from orchestrator.web.header_profile import HeaderProfile
from orchestrator.web.hot_entries import (
    MAX_HOT_TARGET,
    HotEntry,
    HotKey,
    make_first_entry,
    make_hot_entry,
    restore_body,
)
from orchestrator.web.public_address import PublicAddress

_RESTORED_AFTER = 3
"""A head that is used so often gets its body back into memory."""
_IMAGES = (b"/iiif/", b"/iiif-img/", b"/thumbs/")


class DirectAnswers:
    """Finds such answers for one port."""

    def __init__(
        self,
        at_once: Callable[[str, PublicAddress], Delivery | None],
        hot: HotTier[HotEntry],
        bodies: BodyFiles,
    ) -> None:
        """`at_once` answers a GET of an image if it need not wait (`ImageRoutes.at_once`)."""
        self._at_once = at_once
        self._hot = hot
        self._bodies = bodies

    def find(
        self, profile: HeaderProfile, target: bytes
    ) -> tuple[HotEntry, BodyFile | None] | None:
        """Return the response to a GET of `target`, and the file of its body if it has one."""
        heads = self._hot.heads
        if heads is not None:
            for variant in ("", profile.variant):
                key = (profile.base, variant, target)
                head = heads.get(key)
                if head is not None and head.cached is not None:
                    file = self._bodies.open(head.cached)
                    if file is not None:
                        if head.cached.uses >= _RESTORED_AFTER:
                            self._restore(key, head, file)
                        return head, file
        if len(target) > MAX_HOT_TARGET or not target.startswith(_IMAGES) or b"?" in target:
            return None
        return self._make(profile, target)

    def _restore(self, key: HotKey, head: HotEntry, file: BodyFile) -> None:
        """Keep the body in memory again, if the tier accepts it."""
        if self._hot.takes(file.length):
            entry = restore_body(head, file.read(), self._hot.files)
            self._hot.put(key, entry, self._hot.token())

    def _make(
        self, profile: HeaderProfile, target: bytes
    ) -> tuple[HotEntry, BodyFile | None] | None:
        if not target.isascii():
            return None
        hot, text = self._hot, target.decode("ascii")
        token = hot.token()
        delivery = self._at_once(text, profile.address)
        if delivery is None:
            return None
        key = (profile.base, "", target)
        first = make_first_entry(delivery, text)
        if delivery.public:
            if hot.takes(first.length):
                hot.put(key, make_hot_entry(delivery, text, hot.files), token)
            else:
                hot.put_head(key, first, token)
        return first, None
