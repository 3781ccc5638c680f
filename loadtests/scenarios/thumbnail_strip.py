"""Galleries: strips of thumbnails of many images, mostly at sizes that are stored."""

from __future__ import annotations

from locust import between, task

from loadtests.scenarios.common import Visitor

EDGES = (400, 200, 100, 400, 200, 300, 150)
"""Mostly sizes that ingest makes; 300 and 150 have to be resized."""


class ThumbnailStrip(Visitor):
    """Requests twenty thumbnails confined to a square."""

    wait_time = between(0.2, 1)

    @task
    def strip(self) -> None:
        edge = self.random.choice(EDGES)
        for _ in range(20):
            service = self.random.choice(self.services)
            self.fetch_image(f"{service}/full/!{edge},{edge}/0/default.jpg", "thumbnail")
