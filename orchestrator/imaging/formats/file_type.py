"""Recognises a file format by the first bytes, never by the file name. So we choose the loader, and
libvips does not guess one.

A file of any other format is refused before a decoder reads it.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import NotAnImage, Unsupported
from orchestrator.imaging.formats import svg_text
from orchestrator.imaging.formats.foreign_formats import name_foreign_format
from orchestrator.imaging.formats.heif_boxes import has_picture_brand
from orchestrator.imaging.recipes import InputFormat

HEAD_BYTES = 4096

MEDIA_TYPES: dict[InputFormat, tuple[str, str]] = {
    "jpeg": ("image/jpeg", "jpg"),
    "png": ("image/png", "png"),
    "tiff": ("image/tiff", "tif"),
    "jpeg2000": ("image/jp2", "jp2"),
    "gif": ("image/gif", "gif"),
    "webp": ("image/webp", "webp"),
    "heif": ("image/heic", "heic"),
    "svg": ("image/svg+xml", "svg"),
    "pdf": ("application/pdf", "pdf"),
}
"""Media type and file extension of each input format. Stored originals are named by this table."""

_MAGIC: tuple[tuple[bytes, InputFormat], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"%PDF-", "pdf"),
)
_SUPPORTED = "JPEG, PNG, TIFF, JPEG2000, GIF, WebP, HEIF, SVG or PDF"


def sniff(head: bytes) -> InputFormat:
    """The format of a file that begins with `head`. Raises Unsupported for a known format that is
    not read, NotAnImage for anything else.
    """
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if has_picture_brand(head):
        return "heif"
    if svg_text.is_svg(head):
        return "svg"
    foreign = name_foreign_format(head)
    if foreign:
        raise Unsupported(f"{foreign} files are not supported. Use {_SUPPORTED}.")
    raise NotAnImage(f"The file is not in a supported format. Use {_SUPPORTED}.")


def sniff_file(path: Path) -> InputFormat:
    """The format of the file at `path`. Raises Unsupported, NotAnImage, FileNotFoundError."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if svg_text.may_be_svg(head):
            head += file.read(svg_text.HEAD_BYTES)
    return sniff(head)
