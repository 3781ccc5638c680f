"""Logs that a cache cannot be written, once for each series of equal failures."""

from __future__ import annotations

import logging
from contextlib import suppress

from orchestrator.cache.disk.index import is_full
from orchestrator.cache.disk.ledger import Ledger
from orchestrator.errors import NoRoom

log = logging.getLogger(__name__)


class WriteFailures:
    """The present failure of one cache, if there is one."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        self._name = name
        self._ledger = ledger
        self._failure = ""

    def report(self, action: str, error: BaseException) -> None:
        """Log the failure if it differs from the last one; make room if the disk is full."""
        cause = error.__cause__ or error
        if is_full(cause):
            with suppress(NoRoom):
                self._ledger.relieve()
        failure = f"{action}: {cause!r}"
        if failure != self._failure:
            self._failure = failure
            log.warning("cache not writable", extra={"cache": self._name, "error": failure})

    def clear(self) -> None:
        """Log that the cache can be written again, after a failure."""
        if self._failure:
            self._failure = ""
            log.info("cache writable again", extra={"cache": self._name})
