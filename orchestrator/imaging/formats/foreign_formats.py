"""Names image formats that are known and not read, so that a refusal says which one it is."""

from __future__ import annotations

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"BM", "BMP"),
    (0, b"\x00\x00\x01\x00", "ICO"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (0, b"\xff\xd8\xff\xf7", "JPEG-LS"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"SDPX", "DPX"),
    (0, b"XPDS", "DPX"),
    (0, b"AT&TFORM", "DjVu"),
    (0, b"gimp xcf", "XCF"),
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"qoif", "QOI"),
    (128, b"DICM", "DICOM"),
)
_NETPBM = frozenset(b"P%d" % n for n in range(1, 8))
_BRANDS = {b"crx ": "CR3 (raw camera data)", b"jxl ": "JPEG XL"}
_BMP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))
"""Sizes of the second header of a BMP file. Text may begin with BM, too."""


def name_foreign_format(head: bytes) -> str:
    """The name of the image format of a file that begins with `head`, if it is one that is known
    and not read; else "".
    """
    for offset, magic, name in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            if name == "BMP" and int.from_bytes(head[14:18], "little") not in _BMP_HEADERS:
                continue
            return name
    if head[:2] in _NETPBM and head[2:3].isspace():
        return "Netpbm"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "")
    return ""
