"""Galleries: strips of thumbnails of many pictures, at sizes that exist and some that do not."""

from __future__ import annotations

from locust import between, task

from loadtests.scenarios.common import Visitor

EDGES = (400, 200, 100, 400, 200, 300, 150)
"""Mostly the sizes made at ingest, now and then one that has to be resized."""


class ThumbnailStrip(Visitor):
    """Twenty thumbnails a visit, confined to a square."""

    wait_time = between(0.2, 1)

    @task
    def strip(self) -> None:
        edge = self.dice.choice(EDGES)
        for _ in range(20):
            service = self.dice.choice(self.services)
            self.picture(f"{service}/full/!{edge},{edge}/0/default.jpg", "thumbnail")
