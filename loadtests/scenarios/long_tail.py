"""The long tail: requests that rarely repeat, so that no cache can answer them."""

from __future__ import annotations

from locust import between, task

from loadtests.scenarios.common import Visitor


class LongTail(Visitor):
    """Random regions of a random image at random sizes."""

    wait_time = between(0.1, 0.5)

    @task
    def region(self) -> None:
        image = self.read_info(self.random.choice(self.services))
        for _ in range(3):
            w = self.random.randrange(64, max(65, min(image.width, 1500)))
            h = self.random.randrange(64, max(65, min(image.height, 1500)))
            w, h = min(w, image.width), min(h, image.height)
            x = self.random.randrange(image.width - w + 1)
            y = self.random.randrange(image.height - h + 1)
            size = self.random.randrange(max(1, w // 4), w + 1)
            self.fetch_image(f"{image.service}/{x},{y},{w},{h}/{size},/0/default.jpg", "region")
