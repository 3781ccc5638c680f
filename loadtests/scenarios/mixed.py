"""The traffic of a web site: mostly galleries, then viewers, some of the long tail, and pages."""

from __future__ import annotations

from locust import between, task

from loadtests.scenarios import deep_zoom, long_tail, thumbnail_strip
from loadtests.scenarios.common import Visitor


class Mixed(Visitor):
    """Runs the tasks of the other scenarios, by weight."""

    wait_time = between(0.2, 1)

    strip = task(6)(thumbnail_strip.ThumbnailStrip.strip)
    zoom = task(3)(deep_zoom.DeepZoom.zoom)
    region = task(1)(long_tail.LongTail.region)

    @task(1)
    def page(self) -> None:
        self.client.get("/", headers={"Accept": "text/html"}, name="page")
