"""A harvest for machine learning (P15): whole images, half sizes, details and small rotations."""

from __future__ import annotations

from locust import constant, task

from loadtests.scenarios.common import Visitor


class BulkConsumer(Visitor):
    """Takes one image after the other, without a pause."""

    wait_time = constant(0)

    @task
    def harvest(self) -> None:
        image = self.read_info(self.random.choice(self.services))
        edge = min(512, image.width, image.height)
        x = self.random.randrange(image.width - edge + 1)
        y = self.random.randrange(image.height - edge + 1)
        for request in (
            "full/max/0",
            f"full/{max(1, image.width // 2)},/0",
            f"{x},{y},{edge},{edge}/max/0",
            f"full/{min(1000, image.width)},/5",
        ):
            self.fetch_image(f"{image.service}/{request}/default.jpg", "harvest")
