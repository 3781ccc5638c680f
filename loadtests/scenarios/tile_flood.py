"""A flood: one image is in the news, and every client pans over it at every zoom level."""

from __future__ import annotations

from locust import between, task

from loadtests.scenarios.common import Visitor


class TileFlood(Visitor):
    """Requests random tiles of the first image of the collection."""

    wait_time = between(0.01, 0.05)

    def on_start(self) -> None:
        super().on_start()
        self.image = self.read_info(self.services[0])

    @task
    def pan(self) -> None:
        image = self.image
        factor = self.random.choice(image.factors)
        x, y = self.random.random() * image.width, self.random.random() * image.height
        for path in image.tiles(factor, (x, y, x + 1, y + 1)):
            self.fetch_image(path, "tile")
