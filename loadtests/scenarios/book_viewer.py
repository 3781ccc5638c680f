"""Readers of a book: a manifest-like walk through neighbouring images, page after page."""

from __future__ import annotations

from locust import between, task

from loadtests.scenarios.common import Visitor

STRIP = 12
"""Thumbnails of the next pages that a viewer shows below the page."""


class BookViewer(Visitor):
    """Opens a page as an image that fits the window, loads the thumbnails of the pages that follow,
    and zooms into one page of three.
    """

    wait_time = between(0.5, 2)

    def on_start(self) -> None:
        super().on_start()
        self.page = self.random.randrange(len(self.services))

    @task
    def turn_page(self) -> None:
        self.page = (self.page + 1) % len(self.services)
        image = self.read_info(self.services[self.page])
        self.fetch_image(f"{image.service}/full/!1000,1000/0/default.jpg", "page image")
        for offset in range(STRIP):
            service = self.services[(self.page + offset) % len(self.services)]
            self.fetch_image(f"{service}/full/!200,200/0/default.jpg", "thumbnail")
        if self.random.random() < 1 / 3:
            factor = image.factors[len(image.factors) // 2]
            x, y = image.width / 3, image.height / 3
            for path in image.tiles(factor, (x, y, x + 1280 * factor, y + 800 * factor)):
                self.fetch_image(path, "tile")
