"""Runs the official IIIF validator (PyPI `iiif-validator`), and writes its reference image."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyvips

IDENTIFIER = "67352ccc-d1b0-11e1-89ae-279075081939"
"""The name of the reference image. The escaping test needs its dashes."""
IMPOSSIBLE = frozenset({"format_jp2", "format_pdf", "format_webp"})
"""Level 3 tests that fail with every server on Python 3: they call functions of Python 2."""


@dataclass(frozen=True)
class Verdict:
    """The result of one run."""

    passed: tuple[str, ...]
    failed: dict[str, str]
    """The validator's message, by test name."""
    levels: dict[str, int]
    """The level of compliance that each test belongs to."""

    def up_to(self, level: int) -> Verdict:
        """The part of the result that belongs to level 0 to `level`."""
        return Verdict(
            tuple(name for name in self.passed if self.levels[name] <= level),
            {name: text for name, text in self.failed.items() if self.levels[name] <= level},
            self.levels,
        )


def write_reference(folder: Path, *, jpeg2000: bool = False) -> Path:
    """The 1,000 x 1,000 grid of 100 flat colours, from the table in the validator's source."""
    colours = np.array(_validator().ValidationInfo().colorInfo, np.uint8)  # [column][row]
    pixels = np.repeat(np.repeat(colours.transpose(1, 0, 2), 100, axis=0), 100, axis=1)
    picture = pyvips.Image.new_from_memory(pixels.tobytes(), 1000, 1000, 3, "uchar")
    picture = picture.copy(interpretation="srgb")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{IDENTIFIER}.{'jp2' if jpeg2000 else 'png'}"
    if jpeg2000:
        picture.jp2ksave(str(path), Q=95, tile_width=1000, tile_height=1000, subsample_mode="off")
    else:
        picture.pngsave(str(path))
    return path


def validate(prefix: str, identifier: str, *, version: str, level: int) -> Verdict:
    """Run every test of `version` ("2.0" or "3.0") up to `level` against `prefix`, the URL that
    identifiers are appended to.
    """
    validator = _validator()
    address = urlsplit(prefix)
    tests: dict[str, Any] = validator.TestSuite(validator.ValidationInfo()).list_tests(version)
    passed, failed = [], {}
    for name, properties in sorted(tests.items()):
        if properties["level"] > level:
            continue
        message = _run_test(
            validator, name, address.netloc, address.path.strip("/"), identifier, version
        )
        if message:
            failed[name] = message
        else:
            passed.append(name)
    levels = {name: int(properties["level"]) for name, properties in tests.items()}
    return Verdict(tuple(passed), failed, levels)


def _run_test(
    validator: Any, name: str, server: str, prefix: str, identifier: str, version: str
) -> str:
    """The message of a failed test; empty if it passed."""
    suite = validator.TestSuite(validator.ValidationInfo())
    image_api = validator.ImageAPI(identifier, server, prefix, "http", "", version, debug=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the validator never closes its sockets
            suite.run_test(name, image_api)
    except Exception as error:  # a test that raises has not passed
        return f"{type(error).__name__}: {error} {image_api.urls[-1:]}"
    return f"{image_api.exception} {image_api.urls[-1:]}" if image_api.exception else ""


def _validator() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("iiif_validator.validator")
