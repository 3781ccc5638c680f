"""Grok, where it is installed and used, returns the pixels that OpenJPEG returns; where it fails,
OpenJPEG decodes.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.imaging.jpeg2000 import binding, grok
from orchestrator.imaging.jpeg2000.jp2_layout import read_layout
from orchestrator.imaging.jpeg2000.reader import Reader
from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging
from tests.golden.comparison import a_recipe
from tests.support import pictures

SIZE = (413, 300)
TIME_S = 60.0
is_installed = grok.find_grok(TIME_S) is not None
needs_grok = pytest.mark.skipif(not is_installed, reason="grokj2k-tools is not installed")
FORMS: dict[str, dict[str, Any]] = {
    "untiled": {},
    "tiles": {"tile_size": (128, 128)},
    "resolution order, precincts": {"progression": "RPCL", "precinct_size": (64, 64)},
    "three layers, not all bits": {"quality_mode": "rates", "quality_layers": [40, 20, 10]},
    "no colour transform": {"mct": 0},
}


@pytest.fixture(autouse=True)
def small_pictures_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grok decodes also what is not worth a process."""
    monkeypatch.setattr(grok, "_MIN_PIXELS", 1)


def write(path: Path, *, mode: str = "RGB", size: tuple[int, int] = SIZE, **form: Any) -> Path:
    """A reversible file, unless `form` says otherwise."""
    options = {"irreversible": False, "num_resolutions": 4, **form}
    pictures.picture(*size, seed=4).convert(mode).save(path, "JPEG2000", **options)
    return path


def decode(path: Path, n: int, program: grok.Grok | None = None) -> Any | None:
    """The whole image of a file at reduction `n`, decoded by `program`, or by OpenJPEG."""
    reader = Reader(binding.require(), read_layout(path), str(path), n)
    try:
        if program is not None:
            return program.decode(read_layout(path), str(path), n, reader.dimensions)
        return reader.read(0, 0, *reader.dimensions)
    finally:
        reader.close()


def installed() -> grok.Grok:
    program = grok.find_grok(TIME_S)
    assert program is not None
    return program


@needs_grok
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
def test_the_pixels_of_both_decoders_are_the_same_at_every_reduction(
    tmp_path: Path, form: str, suffix: str
) -> None:
    path = write(tmp_path / f"a.{suffix}", **FORMS[form])
    for n in range(4):
        image = decode(path, n, installed())
        assert image is not None
        own = decode(path, n)
        assert own is not None
        assert image.interpretation == own.interpretation
        assert np.array_equal(image.numpy(), own.numpy())


@needs_grok
@pytest.mark.parametrize(
    "form",
    [
        {"irreversible": True},
        {"mode": "RGBA"},
        {"mode": "L"},
        {"mode": "I;16"},
    ],
    ids=["not reversible", "opacity", "gray", "16 bits"],
)
def test_what_could_differ_is_left_to_openjpeg(tmp_path: Path, form: dict[str, Any]) -> None:
    path = tmp_path / "a.jp2"
    if form.get("mode") == "I;16":
        Image.fromarray(pictures.deep(*SIZE)[..., 0]).save(path, "JPEG2000", irreversible=False)
    else:
        write(path, **form)
    assert decode(path, 0, installed()) is None


def test_a_program_that_fails_hangs_or_writes_something_else_is_not_used(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jp2")
    no_output = tmp_path / "program"
    no_output.write_text("#!/bin/sh\nprintf 'P6\\n9 9\\n255\\n'\n")
    no_output.chmod(0o755)
    assert decode(path, 0, grok.Grok(("/bin/false",), TIME_S)) is None
    assert decode(path, 0, grok.Grok((str(no_output),), TIME_S)) is None
    began = time.monotonic()
    assert decode(path, 0, grok.Grok(("/bin/sh", "-c", "sleep 600"), 0.2)) is None
    assert time.monotonic() - began < TIME_S


@pytest.mark.parametrize("works", [pytest.param(True, marks=needs_grok), False])
async def test_a_worker_uses_grok_for_a_whole_image_and_openjpeg_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    path = write(tmp_path / "a.jp2", size=(2100, 1910), num_resolutions=6)
    folder, mark = tmp_path / "programs", tmp_path / "mark"
    folder.mkdir()
    program = folder / "grk_decompress"
    rest = f'exec {shutil.which("grk_decompress")} "$@"' if works else "exit 1"
    program.write_text(f"#!/bin/sh\necho used >> {mark}\n{rest}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    bodies = []
    for choice in ("off", "auto"):
        pool = ImagingPool(Imaging(processes=1, threads=1, grok=choice))
        try:
            recipe = a_recipe(path, await pool.probe(path), format="jpg")
            assert not mark.exists()
            bodies.append(await pool.render(recipe))
        finally:
            await pool.close()
    assert mark.read_text() == "used\n"
    assert bodies[0] == bodies[1]
