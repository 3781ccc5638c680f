"""Finds files that are a picture and something else at the same time: an archive, a web page, a
document. Another program could be made to read the other thing.
"""

from __future__ import annotations

import mmap
import re
import zipfile
from pathlib import Path

from orchestrator.errors import Unsupported

_PDF_HEAD_BYTES = 1024
"""PDF readers look for the header in so many bytes."""
_PAGE = re.compile(rb"<(?:script|html|iframe|\?php|!doctype\s+html)[\s>]", re.IGNORECASE)


def check_single(path: Path) -> None:
    """Raises Unsupported for a picture that is also something else. Blocking; not for SVG."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        if body.find(b"%PDF-", 0, _PDF_HEAD_BYTES) >= 0:
            raise _refusal("a PDF document")
        if _PAGE.search(body):
            raise _refusal("a web page")
    if zipfile.is_zipfile(path):
        raise _refusal("a ZIP archive")


def _refusal(other: str) -> Unsupported:
    return Unsupported(f"The picture is also {other}. Save it again in an image editor.")
