"""The long tail: requests that hardly ever repeat, so that no cache answers them."""

from __future__ import annotations

from locust import between, task

from loadtests.scenarios.common import Visitor


class LongTail(Visitor):
    """One random region at a random size of a random picture, then another."""

    wait_time = between(0.1, 0.5)

    @task
    def region(self) -> None:
        image = self.image(self.dice.choice(self.services))
        for _ in range(3):
            w = self.dice.randrange(64, max(65, min(image.width, 1500)))
            h = self.dice.randrange(64, max(65, min(image.height, 1500)))
            w, h = min(w, image.width), min(h, image.height)
            x = self.dice.randrange(image.width - w + 1)
            y = self.dice.randrange(image.height - h + 1)
            size = self.dice.randrange(max(1, w // 4), w + 1)
            self.picture(f"{image.service}/{x},{y},{w},{h}/{size},/0/default.jpg", "region")
