"""A CDN in front: each address comes once, and later again with If-None-Match."""

from __future__ import annotations

from locust import between, task

from loadtests.scenarios.common import Visitor


class CdnPull(Visitor):
    """Pulls thumbnails and tiles, and revalidates what it has pulled before."""

    wait_time = between(0.02, 0.1)

    def on_start(self) -> None:
        super().on_start()
        self.etags: dict[str, str] = {}

    @task(3)
    def pull(self) -> None:
        image = self.read_info(self.random.choice(self.services))
        factor = self.random.choice(image.factors)
        x, y = self.random.random() * image.width, self.random.random() * image.height
        paths = [f"{image.service}/full/!400,400/0/default.jpg"]
        for path in [*paths, *image.tiles(factor, (x, y, x + 1, y + 1))]:
            if path not in self.etags:
                self.etags[path] = self.fetch_image(path, "pull")

    @task(1)
    def revalidate(self) -> None:
        if not self.etags:
            return
        path = self.random.choice(list(self.etags))
        etag = self.etags[path]
        headers = {"If-None-Match": etag}
        with self.client.get(
            path, headers=headers, name="revalidation", catch_response=True
        ) as answer:
            is_changed = answer.status_code == 200 and answer.headers.get("ETag") != etag
            if answer.status_code == 304 or is_changed:  # an ingest beside it changes images
                answer.success()
            else:
                answer.failure(f"status {answer.status_code} instead of 304")
