"""Replays what a viewer requested in a recorded session (loadtests/record_session.py), with its
pauses, on images of any size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gevent
from locust import between, task

from loadtests.scenarios.common import Visitor

SESSION = Path(__file__).resolve().parents[1] / "sessions" / "openseadragon.json"


class Replay(Visitor):
    """Opens an image and requests the tiles of the session. An image with fewer zoom levels has
    those that remain.
    """

    wait_time = between(0.5, 2)
    steps: list[dict[str, Any]] = json.loads(SESSION.read_text())

    @task
    def replay(self) -> None:
        image = self.read_info(self.random.choice(self.services))
        factors = sorted(image.factors, reverse=True)
        requested: set[str] = set()
        at_ms = 0
        for step in self.steps:
            gevent.sleep(max(0, step["ms"] - at_ms) / 1000)
            at_ms = step["ms"]
            factor = factors[min(step["level"], len(factors) - 1)]
            x, y = step["x"] * image.width, step["y"] * image.height
            for path in image.tiles(factor, (x, y, x + 1, y + 1)):
                if path not in requested:
                    requested.add(path)
                    self.fetch_image(path, f"tile 1:{factor}")
