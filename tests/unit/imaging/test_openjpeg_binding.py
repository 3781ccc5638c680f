"""The declarations of OpenJPEG's structures match the libraries on this machine, and a mismatch is
reported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from orchestrator.imaging.jpeg2000.binding import (
    DECLARATIONS,
    SONAME,
    UnsupportedOpenJpeg,
    open_library,
)


def bundled_library() -> Path:
    """The OpenJPEG that Pillow brings along, which is newer than that of Debian 12."""
    pillow = importlib.util.find_spec("PIL")
    assert pillow is not None
    assert pillow.origin is not None
    (library,) = Path(pillow.origin).parents[1].glob("pillow.libs/libopenjp2*")
    return library


@pytest.mark.parametrize("name", [SONAME, str(bundled_library())], ids=["system", "newer"])
def test_the_structures_match_the_library(name: str) -> None:
    openjpeg = open_library(name)
    parameters = openjpeg.encoder_parameters()
    assert (parameters.numresolution, parameters.subsampling_dx) == (6, 1)
    assert openjpeg.decoder_parameters().cod_format == -1


def test_a_structure_of_another_size_is_reported() -> None:
    larger = DECLARATIONS.replace("unsigned int flags;", "unsigned int flags, more;")
    expected = r"opj_dparameters_t of OpenJPEG 2\.\d\.\d has 8252 bytes, 8256 are expected"
    with pytest.raises(UnsupportedOpenJpeg, match=expected):
        open_library(SONAME, larger)


def test_fields_in_another_order_are_reported() -> None:
    swapped = DECLARATIONS.replace("int roi_compno, roi_shift;", "int roi_shift, roi_compno;")
    with pytest.raises(UnsupportedOpenJpeg, match="has the default roi_compno = 0"):
        open_library(SONAME, swapped)


def test_a_missing_function_is_reported() -> None:
    more = DECLARATIONS + "int opj_function_of_the_future(void);"
    with pytest.raises(UnsupportedOpenJpeg, match="opj_function_of_the_future"):
        open_library(SONAME, more)


def test_a_missing_library_is_an_operating_system_error() -> None:
    with pytest.raises(OSError, match="libopenjp2-missing"):
        open_library("libopenjp2-missing.so")
