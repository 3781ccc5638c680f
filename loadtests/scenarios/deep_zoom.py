"""Viewers: each opens an image and zooms in to full scale around one point."""

from __future__ import annotations

from locust import between, task

from loadtests.scenarios.common import Visitor

WINDOW = (1280, 800)


class DeepZoom(Visitor):
    """Coarse tiles first, then finer tiles of a smaller window; no tile is requested twice."""

    wait_time = between(0.5, 2)

    @task
    def zoom(self) -> None:
        image = self.read_info(self.random.choice(self.services))
        requested: set[str] = set()
        x = self.random.uniform(0.3, 0.7) * image.width
        y = self.random.uniform(0.3, 0.7) * image.height
        for factor in sorted(image.factors, reverse=True):
            half_w, half_h = WINDOW[0] * factor / 2, WINDOW[1] * factor / 2
            window = (
                max(0.0, x - half_w),
                max(0.0, y - half_h),
                min(float(image.width), x + half_w),
                min(float(image.height), y + half_h),
            )
            for path in image.tiles(factor, window):
                if path not in requested:
                    requested.add(path)
                    self.fetch_image(path, "tile")
