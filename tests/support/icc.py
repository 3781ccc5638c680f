"""Writes small ICC profiles (version 2) for tests: primaries with a gamma, gray with a gamma, and
tables for one rendering intent.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

Primaries = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
SRGB: Primaries = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE: Primaries = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
P3: Primaries = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
D65, D50_XYZ = (0.3127, 0.3290), (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
Curve = float | Sequence[int]
"""A gamma, or samples of 16 bits."""


def srgb_curve() -> list[int]:
    """The tone curve of sRGB in 1,024 samples."""
    x = np.linspace(0, 1, 1024)
    y = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return [int(value) for value in np.rint(y * 65535)]


def rgb(primaries: Primaries, curve: Curve, *, name: str = "test RGB") -> bytes:
    """A profile of `primaries` (x, y) with white point D65, adapted to D50."""
    columns = _colorants(primaries)
    tags = {
        b"rXYZ": _xyz(*columns[:, 0]),
        b"gXYZ": _xyz(*columns[:, 1]),
        b"bXYZ": _xyz(*columns[:, 2]),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(curve)),
    }
    return _profile(b"RGB ", b"XYZ ", b"mntr", tags, name)


def gray(curve: Curve, *, name: str = "test gray") -> bytes:
    """A profile for gray."""
    return _profile(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": _curve(curve)}, name)


def table(
    space: bytes,
    to_lab: Callable[..., tuple[float, float, float]],
    *,
    tag: bytes = b"A2B0",
    steps: int = 9,
    name: str = "test table",
) -> bytes:
    """A profile with one table from `space` (b"RGB ", b"CMYK", b"GRAY") to Lab, as tag `tag`.
    `to_lab` receives channels from 0 to 1.
    """
    count = {b"RGB ": 3, b"CMYK": 4, b"GRAY": 1}[space]
    grid = [n / (steps - 1) for n in range(steps)]
    points = (to_lab(*channels) for channels in product(grid, repeat=count))
    body = b"mft2" + bytes(4) + struct.pack(">BBBB", count, 3, steps, 0)
    body += struct.pack(">9i", *(65536 if n % 4 == 0 else 0 for n in range(9)))
    body += struct.pack(">HH", 2, 2) + struct.pack(">HH", 0, 65535) * count
    for lightness, a, b in points:
        values = (lightness / 100 * 65280, (a + 128) * 256, (b + 128) * 256)
        body += struct.pack(">3H", *(min(65535, max(0, round(value))) for value in values))
    body += struct.pack(">HH", 0, 65535) * 3
    return _profile(space, b"Lab ", b"prtr", {tag: body}, name)


def inks_to_lab(c: float, m: float, y: float, k: float) -> tuple[float, float, float]:
    """Simple inks on paper, in Lab: the paper is white and all inks together are dark gray."""
    lightness = 100 * (1 - 0.35 * c) * (1 - 0.45 * m) * (1 - 0.08 * y) * (1 - 0.85 * k)
    fade = 1 - 0.9 * k
    return lightness, fade * (70 * m - 35 * c), fade * (85 * y - 50 * c - 5 * m)


def _colorants(primaries: Primaries) -> np.ndarray:
    xyz = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1.0, (1 - sum(D65)) / D65[1]])
    matrix = xyz * np.linalg.solve(xyz, white)
    scale = (_BRADFORD @ np.array(D50_XYZ)) / (_BRADFORD @ white)
    return np.linalg.inv(_BRADFORD) @ np.diag(scale) @ _BRADFORD @ matrix


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in (x, y, z)))


def _curve(curve: Curve) -> bytes:
    if isinstance(curve, float):
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(curve * 256))
    return b"curv" + bytes(4) + struct.pack(f">I{len(curve)}H", len(curve), *curve)


def _profile(space: bytes, pcs: bytes, kind: bytes, tags: dict[bytes, bytes], name: str) -> bytes:
    text = name.encode()
    described = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(79),
        b"wtpt": _xyz(*D50_XYZ),
        b"cprt": b"text" + bytes(4) + b"none\x00",
        **tags,
    }
    start = 128 + 4 + 12 * len(described)
    entries, body = b"", b""
    for tag, data in described.items():
        entries += tag + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = bytearray(128)
    struct.pack_into(">I", header, 0, start + len(body))
    header[8:24] = struct.pack(">I", 0x02400000) + kind + space + pcs
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">3i", *(round(value * 65536) for value in D50_XYZ))
    return bytes(header) + struct.pack(">I", len(described)) + entries + body
