"""The window in which pyramids are made: opened by a schedule, closed after some time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from orchestrator.settings import Pyramids


class PyramidWindow:
    """Tells how long it takes until pyramids may be made. Without a schedule they always may."""

    def __init__(
        self, settings: Pyramids, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._schedule = settings.schedule
        self._zone = ZoneInfo(settings.time_zone)
        self._open = timedelta(seconds=settings.window_s)
        self._now = now

    @property
    def is_scheduled(self) -> bool:
        """True if there is a schedule."""
        return bool(self._schedule)

    def closed_s(self) -> float:
        """Seconds until the window opens; 0 while it is open."""
        if not self._schedule:
            return 0.0
        now = self._now()
        local = now.astimezone(self._zone)
        # Just past the latest opening: CronSim goes on from the time that it is given.
        latest = next(CronSim(self._schedule, local + timedelta(seconds=1), reverse=True))
        if now - latest.astimezone(UTC) < self._open:
            return 0.0
        # An hour that the clock repeats has one opening, which may be over.
        openings = (each.astimezone(UTC) for each in CronSim(self._schedule, local))
        return next((each - now).total_seconds() for each in openings if each > now)
