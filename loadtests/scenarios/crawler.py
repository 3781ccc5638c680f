"""A crawler: it follows every link of the collection and takes every image as large as it is."""

from __future__ import annotations

from locust import between, task

from loadtests.scenarios.common import Visitor


class Crawler(Visitor):
    """Reads the info document of one image after the other, then the image in three sizes."""

    wait_time = between(0.05, 0.2)

    def on_start(self) -> None:
        super().on_start()
        self.position = self.random.randrange(len(self.services))

    @task
    def crawl(self) -> None:
        self.position = (self.position + 1) % len(self.services)
        image = self.read_info(self.services[self.position])
        for size in ("!400,400", "!1000,1000", "max"):
            self.fetch_image(f"{image.service}/full/{size}/0/default.jpg", "whole image")
