"""`python -m loadtests.record_session`: records what a viewer (OpenSeadragon in Chromium) requests
while a person zooms into a large picture and pans, for the scenario `replay`.

The result, `loadtests/sessions/openseadragon.json`, names no picture: a tile is the number of its
zoom level, counted from the coarsest, and its centre as fractions of width and height.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.support.browsing import ARGUMENTS, Visit
from tests.support.scenes import write_jpeg
from tests.support.serve_process import fetch, run_server

SESSION = Path(__file__).parent / "sessions" / "openseadragon.json"
PICTURE = (12_000, 9_000)
_TILE = re.compile(r"/(\d+),(\d+),(\d+),(\d+)/(\d+),(\d+)?/0/default\.jpg$")


def main() -> None:
    """Record one session."""
    program = shutil.which("chromium")
    assert program, "chromium is not installed: make setup installs it"
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(scratch)
        write_jpeg(folder / "pictures" / "fractal.jpg", *PICTURE, grain=3)
        with run_server(folder / "pictures", data=folder / "data") as server:
            image = server.wait_converted()[0]
            factors = fetch(image["info"]).json["tiles"][0]["scaleFactors"]
            chromium = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
            steps = _record(chromium, f"{server.public}/view/{image['id']}", len(factors))
            chromium.close()
    SESSION.parent.mkdir(exist_ok=True)
    SESSION.write_text("[\n" + ",\n".join(json.dumps(each) for each in steps) + "\n]\n")
    print(f"{len(steps)} requests written to {SESSION}")


def _record(chromium: Any, address: str, levels: int) -> list[dict[str, float]]:
    steps: list[dict[str, float]] = []
    visit = Visit(chromium)
    began = time.monotonic()

    def note(request: Any) -> None:
        found = _TILE.search(request.url)
        if not found:
            return
        x, y, width, height, sent = (int(found[number]) for number in range(1, 6))
        factor = round(width / sent)
        steps.append(
            {
                "ms": round((time.monotonic() - began) * 1000),
                "level": levels - factor.bit_length(),
                "x": round((x + width / 2) / PICTURE[0], 4),
                "y": round((y + height / 2) / PICTURE[1], 4),
            }
        )

    visit.page.on("request", note)
    visit.page.goto(address)
    visit.page.wait_for_selector("canvas")
    visit.settle()
    box = visit.page.locator("canvas").first.bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visit.page.mouse.move(*middle)
    for _ in range(8):
        visit.page.mouse.wheel(0, -240)
        visit.page.wait_for_timeout(500)
    for number in range(3):
        visit.page.mouse.down()
        visit.page.mouse.move(middle[0] - 300, middle[1] - 150 * number, steps=8)
        visit.page.mouse.up()
        visit.page.wait_for_timeout(700)
        visit.page.mouse.move(*middle)
    visit.settle()
    return steps


if __name__ == "__main__":
    main()
