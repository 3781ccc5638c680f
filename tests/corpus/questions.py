"""The requests for one picture of the corpus, and the comparison of the answers with its reference.

The bounds are those of the acceptance script: the 98th percentile of the largest difference of a
channel, colours weighted by the expected opacity. PDF is compared by the mean: two renderers never
agree on the edges of letters.
"""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from tests.corpus.references import Pixels
from tests.support.serve_process import Reply, fetch

FULL, SCALED, TILE = 14, 34, 44
"""Bounds for a lossless answer at full scale, for a reduced one, and for a JPEG tile."""
_JPEG_FULL = 30
_MEAN_OF_PDF = 14.0
_PNG_PIXELS = 4_000_000
"""Whole pictures with more pixels are requested as JPEG."""
_TIMEOUT_S = 180
_HALVED = 16
"""JPEGs with sides of at least this many pixels are compared at half the size: a JPEG stores the
colours of neighbouring pixels together.
"""


@dataclass(slots=True)
class Answers:
    """What the server answered for one file. `refused` is the code of the error body."""

    faults: list[str] = field(default_factory=list)
    server_errors: list[str] = field(default_factory=list)
    refused: str = ""
    reason: str = ""
    slowest_s: float = 0.0
    slowest: str = ""
    compared: int = 0
    is_info_refused: bool = False


class Questions:
    """Asks one server. `slack` multiplies the bounds: 2 for sources that a lossy policy made."""

    def __init__(self, public: str, slack: float) -> None:
        self._public = public
        self._slack = slack

    def ask(self, ident: str, expected: Pixels | None, kind: str) -> Answers:
        """All requests for one asset; `ident` is percent-encoded, `expected` upright RGBA."""
        answers = Answers()
        reply = self._get(f"/iiif/3/{ident}/info.json", answers)
        if reply is None:
            answers.is_info_refused = True
            return answers
        info = json.loads(reply.body)
        size = info["width"], info["height"]
        second = self._get(f"/iiif/2/{ident}/info.json", answers)
        if second and (second.json["width"], second.json["height"]) != size:
            answers.faults.append("info.json of versions 2 and 3 have different sizes")
        picture = None if expected is None else Image.fromarray(expected)
        if picture is not None and not _sizes_agree(picture.size, size, kind):
            answers.faults.append(f"is {size[0]}x{size[1]}, expected {picture.size}")
            picture = None
        for path, box, bound in _requests(ident, info):
            self._compare(path, picture, box, answers, bound=bound, kind=kind)
        return answers

    def _get(self, path: str, answers: Answers) -> Reply | None:
        began = time.monotonic()
        try:
            reply = fetch(self._public + path, timeout_s=_TIMEOUT_S)
        except OSError as error:
            answers.server_errors.append(f"{path}: {error!r}")
            return None
        elapsed = time.monotonic() - began
        if elapsed > answers.slowest_s:
            answers.slowest_s, answers.slowest = elapsed, path
        if reply.status == 200:
            return reply
        if reply.status >= 500:
            answers.server_errors.append(f"{path}: {reply.status} {reply.body[:120]!r}")
        else:
            body = _json(reply.body)
            answers.refused = answers.refused or str(body.get("code") or f"http_{reply.status}")
            answers.reason = answers.reason or str(body.get("error", ""))
        return None

    def _compare(
        self,
        path: str,
        picture: Image.Image | None,
        box: tuple[int, int, int, int],
        answers: Answers,
        *,
        bound: float,
        kind: str,
    ) -> None:
        reply = self._get(path, answers)
        if reply is None:
            return
        try:
            got = Image.open(io.BytesIO(reply.body))
            got.load()
        except OSError as error:
            answers.faults.append(f"{path}: cannot be read ({error})")
            return
        if picture is None:
            return
        if picture.size != (box[2] - box[0], box[3] - box[1]):
            want = picture.resize(got.size, Image.Resampling.LANCZOS, box=_clamp(box, picture.size))
        else:
            want = picture.resize(got.size, Image.Resampling.LANCZOS)
        answers.compared += 1
        fault = _difference(got, want, bound * self._slack, opaque=path.endswith(".jpg"), kind=kind)
        if fault:
            answers.faults.append(f"{path}: {fault}")


def _requests(
    ident: str, info: dict[str, Any]
) -> list[tuple[str, tuple[int, int, int, int], float]]:
    """(path, region, bound) of each picture request: whole, thumbnail, two tiles, both versions."""
    width, height = info["width"], info["height"]
    whole = (0, 0, width, height)
    is_small = width * height <= _PNG_PIXELS
    first = ("png", FULL) if is_small else ("jpg", _JPEG_FULL)
    size = _largest_size(info)
    if size != "max":
        first = ("jpg", SCALED)
    is_large = max(width, height) > 200
    # A JPEG of a few pixels has other colours: chroma is stored at half the resolution.
    thumbnail = "!200,200/0/default.jpg" if is_large else f"{max(1, width // 2)},/0/default.png"
    requests: list[tuple[str, tuple[int, int, int, int], float]] = [
        (f"/iiif/3/{ident}/full/{size}/0/default.{first[0]}", whole, first[1]),
        (f"/iiif/2/{ident}/full/{thumbnail}", whole, SCALED),
    ]
    grid = info.get("tiles", [{"width": 256, "scaleFactors": [1]}])[0]
    across, down = grid["width"], grid.get("height", grid["width"])
    factors = grid["scaleFactors"]
    for version, factor, part in ((3, factors[0], 0), (2, factors[len(factors) // 2], 1)):
        columns, rows = -(-width // (across * factor)), -(-height // (down * factor))
        x, y = (columns - part) // 2 * across * factor, (rows - part) // 2 * down * factor
        w, h = min(across * factor, width - x), min(down * factor, height - y)
        tile = f"{-(-w // factor)},{-(-h // factor)}"
        path = f"/iiif/{version}/{ident}/{x},{y},{w},{h}/{tile}/0/default.jpg"
        requests.append((path, (x, y, x + w, y + h), TILE))
    return requests


def _largest_size(info: dict[str, Any]) -> str:
    width, height = info["width"], info["height"]
    limit_w, limit_h = info.get("maxWidth", width), info.get("maxHeight", height)
    area = info.get("maxArea", width * height)
    if width <= limit_w and height <= limit_h and width * height <= area:
        return "max"
    return "!2000,2000"


def _difference(
    got: Image.Image, want: Image.Image, bound: float, *, opaque: bool, kind: str
) -> str:
    if opaque and got.mode not in ("RGB", "L"):
        return f"a JPEG of mode {got.mode}"
    white = Image.new("RGBA", want.size, "white")
    if opaque:
        one, other = got.convert("RGB"), Image.alpha_composite(white, want).convert("RGB")
    else:
        one, other = _as_rgba(got), want
    if opaque and min(one.size) >= _HALVED:
        one, other = one.reduce(2), other.reduce(2)
    a, b = np.asarray(one, np.int16), np.asarray(other, np.int16)
    difference = np.abs(a - b).astype(np.float32)
    if not opaque:
        difference[..., :3] *= b[..., 3:4] / 255
    if kind == "pdf":
        mean = float(difference[..., :3].mean())
        return f"differs by {mean:.1f} in the mean" if mean > _MEAN_OF_PDF else ""
    value = float(np.percentile(difference.max(axis=2), 98))
    return f"differs by {value:.0f} (bound {bound:.0f})" if value > bound else ""


def _as_rgba(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        gray = np.rint(np.asarray(picture, np.float64) / 257).astype(np.uint8)
        return Image.fromarray(gray).convert("RGBA")
    return picture.convert("RGBA")


def _clamp(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    return box[0], box[1], min(box[2], size[0]), min(box[3], size[1])


def _sizes_agree(one: tuple[int, int], other: tuple[int, int], kind: str) -> bool:
    tolerance = 3 if kind == "pdf" else 0
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
