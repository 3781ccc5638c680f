"""No answer contains memory that the decode worker used for another picture.

glibc fills the memory that it gives to a decoder with the complement of MALLOC_PERTURB_, and freed
memory with its value. A decoder that passes on memory which it did not write answers differently in
two workers with different values. The second test fills the worker with renders of a marker.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.errors import TooLarge, Unprocessable
from orchestrator.imaging import Probe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging
from tests.golden.comparison import a_recipe
from tests.support.samples import list_samples

SAMPLES = list_samples()
PARTS = (1.0, 0.7)
MARKER = (203, 55, 149)
"""A colour that no sample picture has."""
_MARKED_PIXELS = 8
SETTINGS = Imaging(processes=1, threads=1, siblings=False)


async def answers_of(pool: ImagingPool, folder: Path) -> dict[str, bytes | str]:
    """The picture, or the code of the refusal, of each sample and each of its truncations."""
    answers: dict[str, bytes | str] = {}
    for sample in SAMPLES:
        whole = sample.path.read_bytes()
        for part in PARTS:
            path = folder / f"{part}-{sample.path.name}"
            path.write_bytes(whole[: int(len(whole) * part)])
            answers[path.name] = await _answer(pool, path, "jpg")
    return answers


async def _answer(pool: ImagingPool, path: Path, output: str) -> bytes | str:
    try:
        probe = await pool.probe(path)
        return await pool.render(a_recipe(path, probe, format=output))
    except (Unprocessable, TooLarge) as error:
        return error.code


async def test_no_answer_depends_on_the_previous_content_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for fill in ("85", "202"):
        monkeypatch.setenv("MALLOC_PERTURB_", fill)
        pool = ImagingPool(SETTINGS)
        try:
            found.append(await answers_of(pool, tmp_path))
        finally:
            await pool.close()
    different = [name for name in found[0] if found[0][name] != found[1][name]]
    assert different == []


async def test_no_answer_contains_pixels_of_a_picture_that_was_rendered_before(
    tmp_path: Path,
) -> None:
    pool = ImagingPool(SETTINGS)
    marker = _write_markers(tmp_path)
    try:
        probes = [(path, await pool.probe(path)) for path in marker]
        answers: dict[str, bytes | str] = {}
        for sample in SAMPLES:
            await _fill(pool, probes)
            answers[sample.name] = await _answer(pool, sample.path, "png")
    finally:
        await pool.close()
    marked = {
        name: _marked_pixels(body) for name, body in answers.items() if isinstance(body, bytes)
    }
    assert {name: count for name, count in marked.items() if count > _MARKED_PIXELS} == {}


def test_the_marker_is_found_in_a_picture_that_has_it() -> None:
    array = np.zeros((20, 20, 3), np.uint8)
    array[3:8, 5:11] = MARKER
    body = io.BytesIO()
    Image.fromarray(array).save(body, "PNG")
    assert _marked_pixels(body.getvalue()) == 30


def test_no_sample_has_the_colour_of_the_marker() -> None:
    for sample in SAMPLES:
        expected = sample.expected
        if expected is not None:
            assert _count(expected[..., :3]) <= _MARKED_PIXELS, sample.name


def _write_markers(folder: Path) -> list[Path]:
    """A small picture of the marker's colour as PNG, and a larger one as JPEG2000."""
    small, large = folder / "marker.png", folder / "marker.jp2"
    Image.new("RGB", (260, 260), MARKER).save(small)
    Image.new("RGB", (520, 520), MARKER).save(large, irreversible=False)
    return [small, large]


async def _fill(pool: ImagingPool, probes: list[tuple[Path, Probe]]) -> None:
    for path, probe in probes:
        await pool.render(a_recipe(path, probe, format="tif"))


def _marked_pixels(body: bytes) -> int:
    """How many pixels have the colour of the marker, or are a row of its gray values."""
    with Image.open(io.BytesIO(body)) as picture:
        return _count(np.asarray(picture.convert("RGB")))


def _count(array: np.ndarray) -> int:  # type: ignore[type-arg]
    distance = np.abs(array.astype(np.int16) - np.array(MARKER, np.int16))
    return int((distance.max(axis=2) <= 1).sum())
