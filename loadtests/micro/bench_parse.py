"""Measures the microseconds to parse and resolve a request target: the best of several rounds.

python loadtests/micro/bench_parse.py [--json]
"""

from __future__ import annotations

import argparse
import json
import timeit
from functools import partial

from orchestrator.iiif.geometry import Limits, resolve
from orchestrator.iiif.paths import parse_path
from orchestrator.iiif.syntax import parse_image_request

TARGETS = {
    "tile w,h": "/iiif/3/1%2F1%2Fsample/1024,512,512,512/256,256/0/default.jpg",
    "tile w,": "/iiif/2/1%2F1%2Fsample/1024,512,512,512/256,/0/default.jpg",
    "customer route": "/iiif-img/v3/1/1/sample/full/!400,400/0/default.jpg",
    "percent, rotated": "/iiif/3/1%2F1%2Fsample/pct:10.5,10,20,20/^pct:150/22.5/gray.png",
}
DIMENSIONS = (12_000, 9_000)
ROUNDS, REPEATS = 7, 2_000


def resolve_target(target: str, limits: Limits) -> str:
    """The product of one target."""
    path = parse_path(target)
    request = parse_image_request(path.rest, path.version or 3)
    return resolve(request, DIMENSIONS, limits).product


def measure(target: str) -> float:
    """Microseconds for one target."""
    timer = timeit.Timer(partial(resolve_target, target, Limits()))
    return min(timer.repeat(ROUNDS, REPEATS)) / REPEATS * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    results = {name: round(measure(target), 2) for name, target in TARGETS.items()}
    if as_json:
        print(json.dumps({"microseconds": results}))
        return
    for name, microseconds in results.items():
        print(f"{name:16} {microseconds:7.2f} us")


if __name__ == "__main__":
    main()
