"""Writes pictures with EXIF and XMP metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.support import pictures

W, H = 64, 48
"""The size of the pictures."""


def xmp_packet(orientation: int, prefix: str = "tiff") -> bytes:
    """An XMP packet with this tiff:Orientation."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:{prefix}="http://ns.adobe.com/tiff/1.0/" {prefix}:Orientation="{orientation}"/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


def exif_of(orientation: int | None) -> bytes:
    """EXIF with this orientation, or without one."""
    exif = Image.Exif()
    exif[0x010F] = "maker"
    if orientation is not None:
        exif[0x0112] = orientation
    return exif.tobytes()


def save_pattern(path: Path, kind: str, **metadata: Any) -> None:
    """The pattern of `W` x `H` pixels as a file of the format `kind` of Pillow."""
    xmp = metadata.get("xmp")
    if kind == "PNG" and xmp is not None:
        information = PngInfo()
        information.add_itxt("XML:com.adobe.xmp", metadata.pop("xmp").decode())
        metadata["pnginfo"] = information
    lossless = {"lossless": True} if kind == "WEBP" else {}
    pictures.picture(W, H).save(path, kind, **lossless, **metadata)


def avif(path: Path, **metadata: Any) -> Path:
    """The pattern of `W` x `H` pixels as AVIF."""
    pictures.picture(W, H).save(path, "AVIF", quality=95, subsampling="4:4:4", **metadata)
    return path
