"""Logs a fault that repeats when it begins, once a minute while it lasts, and when it ends.

Every loop that tries again logs its failures here: an outage of hours does not fill the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

EVERY_S = 60.0


@dataclass(slots=True)
class _Series:
    began: float
    times: int = 0
    is_logged: bool = False


class FaultLog:
    """The faults of one kind, of one or several things (`key`). Used from one thread only."""

    def __init__(
        self,
        log: logging.Logger,
        failed: str,
        ended: str,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`failed` is the event of a failure, `ended` that of the first success after failures."""
        self._log = log
        self._failed = failed
        self._ended = ended
        self._now = now
        self._series: dict[str, _Series] = {}
        self._logged: dict[str, float] = {}

    def report(self, key: str = "", *, bug: BaseException | None = None, **fields: object) -> None:
        """Log a failure with these fields, unless one was logged in the last minute: faults that
        come and go are not logged each time. `times` and `since_s` are those of this series.

        `bug`: an exception that no code expects; it is logged as an error with its traceback.
        """
        now = self._now()
        series = self._series.setdefault(key, _Series(now))
        series.times += 1
        if now - self._logged.get(key, float("-inf")) < EVERY_S:
            return
        self._logged[key], series.is_logged = now, True
        if series.times > 1:
            fields |= {"times": series.times, "since_s": round(now - series.began)}
        level = logging.WARNING if bug is None else logging.ERROR
        self._log.log(level, self._failed, extra=fields, exc_info=bug)

    def clear(self, key: str = "", **fields: object) -> None:
        """Log that the failures have ended, if some were logged."""
        series = self._series.pop(key, None)
        if series is not None and series.is_logged:
            lasted_s = round(self._now() - series.began, 1)
            fields |= {"times": series.times, "lasted_s": lasted_s}
            self._log.info(self._ended, extra=fields)
