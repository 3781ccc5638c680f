"""Computes colour pictures for the black-box tests and the benchmarks: a Julia set over colour
gradients with fine grain, so that every part of a picture differs from all others.

They are written with libvips. The same arguments give the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyvips

_BASE_EDGE = 2400
"""The fractal is computed with at most this edge and then enlarged. Grain is added afterwards."""


def scene(width: int, height: int, *, seed: int = 1, grain: float = 6.0) -> pyvips.Image:
    """An sRGB picture of this size; `grain` is the standard deviation of its noise (0: none)."""
    shrink = max(1.0, max(width, height) / _BASE_EDGE)
    small = _julia(round(width / shrink), round(height / shrink), seed)
    picture = pyvips.Image.new_from_memory(
        small.tobytes(), small.shape[1], small.shape[0], 3, "uchar"
    )
    if shrink > 1:
        picture = picture.resize(width / small.shape[1], vscale=height / small.shape[0])
        picture = picture.gravity("centre", width, height, extend="copy")
    if grain:
        noise = pyvips.Image.gaussnoise(width, height, sigma=grain, mean=0, seed=seed)
        picture = (picture + noise).cast("uchar")
    return picture.copy(interpretation="srgb")


def _julia(width: int, height: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    angle = random.uniform(0, 2 * np.pi)
    c = 0.7885 * np.exp(1j * angle)
    x, y = np.linspace(-1.4, 1.4, width), np.linspace(-1.4, 1.4, height) * height / width
    z = (x[None, :] + 1j * y[:, None]).astype(np.complex64)
    iterations = np.zeros(z.shape, np.float32)
    for _ in range(28):
        alive = np.abs(z) < 4
        z = np.where(alive, z * z + np.complex64(c), z)
        iterations += alive
    u, v = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    phase = random.uniform(0, 6, 3)
    bands = [
        128
        + 60 * np.sin(iterations / 4 + phase[i])
        + 60 * np.sin(3 * (u * (i + 1) + v * (3 - i)) + phase[i])
        for i in range(3)
    ]
    return np.clip(np.stack(bands, axis=2), 0, 255).astype(np.uint8)


def write_jpeg(path: Path, width: int, height: int, *, seed: int = 1, grain: float = 6.0) -> Path:
    """A JPEG of quality 90."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scene(width, height, seed=seed, grain=grain).jpegsave(str(path), Q=90)
    return path


def write_png(path: Path, width: int, height: int, *, seed: int = 1) -> Path:
    """An 8-bit RGB PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scene(width, height, seed=seed).pngsave(str(path), compression=1)
    return path


def write_jpeg2000(
    path: Path, width: int, height: int, *, seed: int = 1, tile: int = 512, quality: int = 60
) -> Path:
    """A lossy JPEG2000; `tile` is the edge of its codestream tiles, 0 for one tile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    edge = (tile, tile) if tile else (width, height)
    picture = scene(width, height, seed=seed)
    picture.jp2ksave(str(path), Q=quality, tile_width=edge[0], tile_height=edge[1])
    return path


def write_pyramid(path: Path, width: int, height: int, *, seed: int = 1) -> Path:
    """A pyramid TIFF with JPEG tiles of 256 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scene(width, height, seed=seed).tiffsave(
        str(path),
        tile=True,
        tile_width=256,
        tile_height=256,
        pyramid=True,
        compression="jpeg",
        Q=85,
    )
    return path
