"""Encodes again the tiles that miss the quality of a lossy policy.

OpenJPEG keeps coding passes until the error that it estimates is a little larger than requested. In
a flat tile all coefficients have the same passes, so one more or less changes the error by many
decibels, and the tile gets another brightness. Smooth tiles are therefore encoded alone and decoded
first. A tile that misses is encoded with all its passes; only the quantisation is left as an error.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from orchestrator.imaging.jpeg2000.binding import OpenJpeg
from orchestrator.imaging.jpeg2000.encoder import Encoder, ImageForm, Pixels, TileGrid
from orchestrator.imaging.jpeg2000.jp2_layout import read_layout
from orchestrator.imaging.jpeg2000.reader import Reader
from orchestrator.imaging.jpeg2000.reorder import BetterTiles
from orchestrator.imaging.jpeg2000.tile_parts import TilePart

_PEAK = 255**2
_UNESTIMATED_ERROR = 0.42
"""Mean square error that OpenJPEG does not estimate: quantisation and rounding (measured)."""
_TOLERANCE = 1.1
"""By how much the mean square error of a tile may exceed that of the policy: 0.4 dB."""
_MAX_BIAS = 0.4
"""Largest difference in brightness of a tile, in levels."""
_SMOOTH_VARIANCE, _SMOOTH_SHARE = 36.0, 0.4
"""A tile is checked if its variance is less than this, or if more than this share of its pixels
differ from their neighbours by at most one level.
"""
_ROW_STEP = 16
"""Every n-th row is used to find smooth tiles."""


def psnr_to_request(psnr: float) -> float:
    """What to request of OpenJPEG so that a tile of 8 bits gets `psnr` (both in dB)."""
    error = _TOLERANCE * _PEAK / 10 ** (psnr / 10) - _UNESTIMATED_ERROR
    return 10 * math.log10(_PEAK / max(error, 0.1))


class TileQuality:
    """Encodes the smooth tiles of one file that is being written. Its files are beside `target`."""

    def __init__(
        self, openjpeg: OpenJpeg, grid: TileGrid, psnr: float, target: Path, *, threads: int
    ) -> None:
        self._openjpeg = openjpeg
        self._grid = grid
        self._psnr = psnr
        self._threads = threads
        self._alone = target.with_name(f"{target.name}.tile")
        self.better = BetterTiles(target.with_name(f"{target.name}.better"), {})

    def encode_if_smooth(self, number: int, tile: Pixels, origin: tuple[int, int]) -> bool:
        """Encode `tile`, at `origin` in the image, with the quality if it is smooth. False if it is
        not: then the encoder of the file gives it the quality. Raises CodestreamError, OSError.
        """
        if not _is_smooth(tile):
            return False
        self._encode(tile, origin, psnr_to_request(self._psnr))
        if not self._is_good(tile):
            self._encode(tile, origin, None)
        self._keep(number)
        return True

    def close(self) -> None:
        """Remove the files."""
        self._alone.unlink(missing_ok=True)
        self.better.path.unlink(missing_ok=True)

    def _encode(self, tile: Pixels, origin: tuple[int, int], psnr: float | None) -> None:
        rows, columns, bands = tile.shape
        form = ImageForm(columns, rows, bands, bits=8)
        with Encoder(self._openjpeg, form, self._grid, psnr, origin=origin) as encoder:
            encoder.start(self._alone, self._threads)
            encoder.write_tile(tile)
            encoder.finish()

    def _is_good(self, tile: Pixels) -> bool:
        reader = Reader(self._openjpeg, read_layout(self._alone), str(self._alone), 0)
        decoded = reader.read(0, 0, tile.shape[1], tile.shape[0])
        samples = np.frombuffer(decoded.write_to_memory(), np.uint8).reshape(tile.shape)
        errors = samples.astype(np.int16) - tile
        bias = np.abs(errors.mean(axis=(0, 1))).max()
        allowed = _TOLERANCE * _PEAK / 10 ** (self._psnr / 10)
        return bool(bias <= _MAX_BIAS and np.square(errors, dtype=np.int32).mean() <= allowed)

    def _keep(self, number: int) -> None:
        """Append the tile-parts of the tile that was encoded alone, as those of tile `number`."""
        parts = read_layout(self._alone).index.parts[0]
        body = self._alone.read_bytes()
        with self.better.path.open("ab") as file:
            kept = []
            for part in parts:
                kept.append(TilePart(number, part.number, file.tell(), part.length))
                content = body[part.start : part.end]
                file.write(content[:4] + struct.pack(">H", number) + content[6:])
        self.better.parts[number] = kept


def _is_smooth(tile: Pixels) -> bool:
    rows = tile[::_ROW_STEP].astype(np.int16)
    if rows.var() < _SMOOTH_VARIANCE or rows.shape[1] < 2:
        return True
    return bool((np.abs(np.diff(rows, axis=1)) <= 1).mean() > _SMOOTH_SHARE)
