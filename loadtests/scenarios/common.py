"""Code that the locust scenarios share: the collection, the tiles that a viewer requests, and a
name for each response by the tier that answered (X-Served-From), as in metrics and dashboards.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

from locust import FastHttpUser
from locust.exception import StopUser


@dataclass(frozen=True)
class Image:
    """One image of the collection, from its info document."""

    service: str
    """Path of the image service."""
    width: int
    height: int
    tile_width: int
    tile_height: int
    factors: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]

    def tiles(self, factor: int, window: tuple[float, float, float, float]) -> list[str]:
        """Paths of the tiles at this scale factor that a window (left, top, right, bottom, in
        pixels of the image) shows, in OpenSeadragon's form.
        """
        step_w, step_h = self.tile_width * factor, self.tile_height * factor
        left, top, right, bottom = window
        paths = []
        for y in range(int(top // step_h) * step_h, math.ceil(bottom), step_h):
            for x in range(int(left // step_w) * step_w, math.ceil(right), step_w):
                w, h = min(step_w, self.width - x), min(step_h, self.height - y)
                if w > 0 and h > 0:
                    size = f"{math.ceil(w / factor)},{math.ceil(h / factor)}"
                    paths.append(f"{self.service}/{x},{y},{w},{h}/{size}/0/default.jpg")
        return paths


class Visitor(FastHttpUser):
    """A client that reads the list of images; counts each response as `{kind} {tier}`."""

    abstract = True
    network_timeout = 60.0
    connection_timeout = 10.0

    def on_start(self) -> None:
        self.random = random.Random()
        with self.client.get(
            "/", headers={"Accept": "application/json"}, name="listing", catch_response=True
        ) as answer:
            listing = answer.json()
        self.services = [_path(each["info"]) for each in listing["images"]]
        if not self.services:
            raise StopUser

    def read_info(self, service: str) -> Image:
        """Read the info document."""
        with self.client.get(
            f"{service}/info.json", name="info.json", catch_response=True
        ) as answer:
            info: dict[str, Any] = answer.json()
        tile = info["tiles"][0]
        sizes = tuple((each["width"], each["height"]) for each in info.get("sizes", ()))
        return Image(
            service,
            info["width"],
            info["height"],
            tile["width"],
            tile.get("height", tile["width"]),
            tuple(sorted(tile["scaleFactors"])),
            sizes,
        )

    def fetch_image(self, path: str, kind: str) -> str:
        """Request an image; returns its ETag. Any status but 200 is a failure, except 503 with
        Retry-After, which is admission.
        """
        with self.client.get(path, name=kind, catch_response=True) as answer:
            tier = (answer.headers or {}).get("X-Served-From", "none")
            answer.request_meta["name"] = f"{kind} {tier}"
            if answer.status_code == 503 and "Retry-After" in (answer.headers or {}):
                answer.request_meta["name"] = f"{kind} refused"
                answer.success()
            elif answer.status_code != 200 or not answer.content:
                answer.failure(f"status {answer.status_code}")
            return str((answer.headers or {}).get("ETag", ""))


def _path(address: str) -> str:
    return "/" + address.split("/", 3)[3].removesuffix("/info.json")
