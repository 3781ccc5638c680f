"""Writes test pictures, which are the same on every machine: `kind(path, width, height, seed)`
writes one file.

Most of them show `pattern`: the array of pixels that a correct reader returns.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]


def pattern(width: int, height: int, seed: int = 0) -> Pixels:
    """Gradients, waves and short dark bars, (height, width, 3). The colours change with the
    position.
    """
    random = np.random.default_rng(seed)
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    wave = 24 * np.sin(x / 37 + float(random.uniform(0, 6))) * np.cos(y / 53)
    red = 200 * x / max(width - 1, 1) + 20 + wave + 0 * y
    green = 200 * y / max(height - 1, 1) + 20 - wave + 0 * x
    blue = 128 + 60 * np.sin((x + y) / 211) + wave
    array = np.clip(np.stack([red, green, blue], axis=-1), 0, 255).astype(np.uint8)
    return _strokes(array, random)


def _strokes(array: Pixels, random: np.random.Generator) -> Pixels:
    """Rows of dark bars at random positions, with a contrast that lossy formats keep."""
    height, width = array.shape[:2]
    for _ in range(max(1, width * height // 60_000)):
        left, top = int(random.integers(0, width)), int(random.integers(0, height))
        for n in range(int(random.integers(4, 12))):
            at = left + n * 14
            array[top : top + 24, at : at + 6] = (array[top : top + 24, at : at + 6] * 0.6).astype(
                np.uint8
            )
    return array


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """`pattern` as a Pillow image."""
    return Image.fromarray(pattern(width, height, seed))


def _vips(array: NDArray[Any]) -> Any:
    return pyvips.Image.new_from_array(array)


def jpeg(
    path: Path, width: int, height: int, seed: int = 0, *, quality: int = 95, **options: Any
) -> Path:
    picture(width, height, seed).save(path, "JPEG", quality=quality, subsampling=0, **options)
    return path


def progressive_jpeg(path: Path, width: int, height: int, seed: int = 0) -> Path:
    return jpeg(path, width, height, seed, progressive=True)


def gray_jpeg(path: Path, width: int, height: int, seed: int = 0) -> Path:
    picture(width, height, seed).convert("L").save(path, "JPEG", quality=95)
    return path


def cmyk_jpeg(path: Path, width: int, height: int, seed: int = 0) -> Path:
    picture(width, height, seed).convert("CMYK").save(path, "JPEG", quality=95)
    return path


def png(path: Path, width: int, height: int, seed: int = 0) -> Path:
    picture(width, height, seed).save(path, "PNG", compress_level=1)
    return path


def deep(width: int, height: int, seed: int = 0) -> NDArray[np.uint16]:
    """The pattern in 16 bits, with random low bits."""
    low = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return (pattern(width, height, seed).astype(np.uint16) * 256 + low.astype(np.uint16)).astype(
        np.uint16
    )


def png_16(path: Path, width: int, height: int, seed: int = 0) -> Path:
    _vips(deep(width, height, seed)).copy(interpretation="rgb16").pngsave(str(path), compression=1)
    return path


def tiff_16(path: Path, width: int, height: int, seed: int = 0) -> Path:
    image = _vips(deep(width, height, seed)).copy(interpretation="rgb16")
    image.tiffsave(str(path), compression="deflate")
    return path


def alpha(width: int, height: int, seed: int = 0) -> Pixels:
    """The pattern with alpha: the left quarter transparent, the second half-transparent, the rest
    opaque.
    """
    array = np.full((height, width, 4), 255, np.uint8)
    array[..., :3] = pattern(width, height, seed)
    array[:, : width // 4, 3] = 0
    array[:, width // 4 : width // 2, 3] = 128
    return array


def alpha_png(path: Path, width: int, height: int, seed: int = 0) -> Path:
    Image.fromarray(alpha(width, height, seed)).save(path, "PNG", compress_level=1)
    return path


def palette_png(path: Path, width: int, height: int, seed: int = 0) -> Path:
    picture(width, height, seed).quantize(64, dither=Image.Dither.NONE).save(path, "PNG")
    return path


def one_bit_png(path: Path, width: int, height: int, seed: int = 0) -> Path:
    picture(width, height, seed).convert("1").save(path, "PNG")
    return path


def one_bit_tiff(path: Path, width: int, height: int, seed: int = 0) -> Path:
    picture(width, height, seed).convert("1").save(path, "TIFF", compression="group4")
    return path


def tiff(path: Path, width: int, height: int, seed: int = 0) -> Path:
    picture(width, height, seed).save(path, "TIFF", compression="tiff_lzw")
    return path


def cmyk_tiff(path: Path, width: int, height: int, seed: int = 0) -> Path:
    picture(width, height, seed).convert("CMYK").save(path, "TIFF")
    return path


def multi_page_tiff(path: Path, width: int, height: int, seed: int = 0) -> Path:
    """Three pages of different pictures; the first is `pattern`."""
    pages = [picture(width, height, seed + n) for n in range(3)]
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:])
    return path


def pyramid_tiff(path: Path, width: int, height: int, seed: int = 0, *, tile: int = 256) -> Path:
    _vips(pattern(width, height, seed)).copy(interpretation="srgb").tiffsave(
        str(path),
        tile=True,
        pyramid=True,
        compression="jpeg",
        Q=95,
        tile_width=tile,
        tile_height=tile,
    )
    return path


def webp(path: Path, width: int, height: int, seed: int = 0) -> Path:
    picture(width, height, seed).save(path, "WEBP", lossless=True, quality=0)
    return path


def gif(path: Path, width: int, height: int, seed: int = 0) -> Path:
    picture(width, height, seed).quantize(128, dither=Image.Dither.NONE).save(path, "GIF")
    return path


def animated_gif(path: Path, width: int, height: int, seed: int = 0) -> Path:
    """Five frames. All but the first change only a small moving square."""
    first = picture(width, height, seed).quantize(64, dither=Image.Dither.NONE).convert("RGB")
    frames = [first]
    for n in range(1, 5):
        frame = frames[-1].copy()
        at = n * min(width, height) // 8
        ImageDraw.Draw(frame).rectangle((at, at, at + 8, at + 8), fill=(255, 0, 0))
        frames.append(frame)
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:], duration=100, disposal=1)
    return path


def jp2_tiled(path: Path, width: int, height: int, seed: int = 0, *, tile: int = 512) -> Path:
    """Codestream tiles of `tile` pixels; near-lossless."""
    picture(width, height, seed).save(
        path, "JPEG2000", **_lossy(width, height),
        tile_size=(tile, tile), num_resolutions=_resolutions(min(width, height, tile)), mct=1,
    )  # fmt: skip
    return path


def jp2_untiled(path: Path, width: int, height: int, seed: int = 0) -> Path:
    """One codestream tile, packets by resolution with precincts and PLT, as the converters of
    libraries and museums write it.
    """
    picture(width, height, seed).save(
        path, "JPEG2000", **_lossy(width, height), progression="RPCL",
        num_resolutions=_resolutions(min(width, height)), precinct_size=(256, 256), plt=True, mct=1,
    )  # fmt: skip
    return path


def _lossy(width: int, height: int) -> dict[str, Any]:
    """Near-lossless. Lossless for tiny pictures, in which the lossy encoder misses its aim."""
    if min(width, height) < 64:
        return {"irreversible": False}
    return {"irreversible": True, "quality_mode": "dB", "quality_layers": [50]}


def _resolutions(side: int) -> int:
    return max(1, min(8, side.bit_length() - 4))


def svg(path: Path, width: int, height: int, seed: int = 0) -> Path:
    """A red disc in the middle of a blue background."""
    del seed
    path.write_text(
        f'<?xml version="1.0"?>\n<!-- a drawing -->\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 100 100" preserveAspectRatio="none">'
        f'<rect width="100" height="100" fill="#0000ff"/>'
        f'<circle cx="50" cy="50" r="25" fill="#ff0000"/></svg>'
    )
    return path


def svg_with_external_references(path: Path, address: str) -> Path:
    """A white drawing that refers to `address` as image, style sheet and included text."""
    path.write_text(
        f'<?xml version="1.0"?>\n<!DOCTYPE svg [<!ENTITY leak SYSTEM "{address}">]>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'xmlns:xi="http://www.w3.org/2001/XInclude" width="200" height="100">'
        f'<style>@import url("{address}");</style><rect width="200" height="100" fill="white"/>'
        f'<image x="0" y="0" width="100" height="100" xlink:href="{address}"/>'
        f'<use xlink:href="{address}#a"/><text x="110" y="50">'
        f'<xi:include href="{address}" parse="text"/></text></svg>'
    )
    return path


def pdf(path: Path, width: int, height: int, seed: int = 0, *, pages: int = 3) -> Path:
    """`pages` pages of `width` x `height` points. The lower left quarter is red on page 1 and green
    on the others.
    """
    del seed
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{3 + 2 * n} 0 R" for n in range(pages))
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>".encode())
    for n in range(pages):
        colour = "1 0 0" if n == 0 else "0 1 0"
        drawing = f"{colour} rg 0 0 {width / 2} {height / 2} re f".encode()
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] "
            f"/Contents {4 + 2 * n} 0 R >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing))
    out, offsets = io.BytesIO(), []
    out.write(b"%PDF-1.4\n")
    for number, body in enumerate(objects, start=1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % offset for offset in offsets)
    out.write(
        b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    )
    path.write_bytes(out.getvalue())
    return path


def with_orientation(path: Path, width: int, height: int, orientation: int, seed: int = 0) -> Path:
    """A JPEG that shows `pattern(width, height)` to a reader that applies the EXIF orientation."""
    turn = Image.Transpose
    inverse = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_90,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_270,
    }
    stored = picture(width, height, seed)
    if orientation in inverse:
        stored = stored.transpose(inverse[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(path, "JPEG", quality=97, subsampling=0, exif=exif)
    return path


def truncated(path: Path, whole: Path, part: float) -> Path:
    """The first `part` (0 to 1) of a file's bytes."""
    body = whole.read_bytes()
    path.write_bytes(body[: int(len(body) * part)])
    return path


def png_bomb(path: Path, width: int = 60_000, height: int = 60_000) -> Path:
    """A small PNG whose header has enormous dimensions."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    row = zlib.compress(bytes(1 + width // 8) * 64)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")
    )
    return path


def gif_bomb(path: Path, width: int = 60_000, height: int = 60_000) -> Path:
    """A GIF of a few bytes whose header has enormous dimensions."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"
    path.write_bytes(screen + frame + b"\x3b")
    return path


def svg_bomb(path: Path, width: int = 60_000, height: int = 60_000) -> Path:
    """An SVG with enormous dimensions."""
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><rect/></svg>'
    )
    return path


def jp2_bomb(path: Path, width: int = 60_000, height: int = 60_000) -> Path:
    """A small codestream whose header has enormous dimensions, in one tile."""
    body = bytearray(jp2_untiled(path, 64, 64).read_bytes())
    siz = body.index(b"\xff\x51")
    for offset, value in ((6, width), (10, height), (22, width), (26, height)):
        struct.pack_into(">I", body, siz + offset, value)
    box = body.index(b"ihdr")
    struct.pack_into(">II", body, box + 4, height, width)
    path.write_bytes(bytes(body))
    return path


def tiff_bomb(path: Path, width: int = 60_000, height: int = 60_000) -> Path:
    """A TIFF of a few hundred bytes whose header has enormous dimensions."""
    body = bytearray(tiff(path, 16, 16).read_bytes())
    start = struct.unpack_from("<I", body, 4)[0]
    for n in range(struct.unpack_from("<H", body, start)[0]):
        entry = start + 2 + 12 * n
        tag = struct.unpack_from("<H", body, entry)[0]
        if tag in (256, 257):
            struct.pack_into("<HII", body, entry + 2, 4, 1, width if tag == 256 else height)
    path.write_bytes(bytes(body))
    return path


def html_as_jpeg(path: Path) -> Path:
    path.write_text("<!DOCTYPE html><html><body>Not found</body></html>")
    return path


def bmp(path: Path, width: int, height: int, seed: int = 0) -> Path:
    """A format that only ImageMagick reads."""
    picture(width, height, seed).save(path, "BMP")
    return path


def ico(path: Path, width: int, height: int, seed: int = 0) -> Path:
    picture(width, height, seed).save(path, "ICO")
    return path


def colour_grid(path: Path) -> Path:
    """The reference picture of the official validator: 10 x 10 squares of 100 pixels, in the
    colours of its table.
    """
    from iiif_validator.validator import ValidationInfo  # type: ignore[import-untyped]

    table = np.array(ValidationInfo().colorInfo, np.uint8)  # [column][row]
    pixels = table.transpose(1, 0, 2).repeat(100, axis=0).repeat(100, axis=1)
    Image.fromarray(pixels).save(path)
    return path


def fractal(path: Path, width: int = 12_000, height: int = 9_000, seed: int = 0) -> Path:
    """A part of the Mandelbrot set with fine texture at every scale. The extension of `path`
    chooses the format.
    """
    coarse = _mandelbrot(-(-width // 8), -(-height // 8))
    large = _vips(coarse).resize(
        width / coarse.shape[1], vscale=height / coarse.shape[0], kernel="cubic"
    )
    grid = pyvips.Image.xyz(width, height)
    weave = (grid[0] * 28.6479).sin() * (grid[1] * 19.0986).cos() * 10
    grain = pyvips.Image.gaussnoise(512, 512, sigma=5, mean=0, seed=seed).replicate(
        -(-width // 512), -(-height // 512)
    )
    image = (
        (large + weave + grain.crop(0, 0, width, height)).cast("uchar").copy(interpretation="srgb")
    )
    options = {"Q": 85} if path.suffix in (".jpg", ".jpeg") else {}
    image.write_to_file(str(path), **options)
    return path


def _mandelbrot(width: int, height: int, rounds: int = 60) -> Pixels:
    x = np.linspace(-0.7498, -0.7402, width, dtype=np.float32)[None, :]
    y = np.linspace(0.1035, 0.1107, height, dtype=np.float32)[:, None]
    c = x + 1j * y
    z, steps = np.zeros_like(c), np.zeros(c.shape, np.float32)
    for _ in range(rounds * 4):
        alive = np.abs(z) < 4
        if not alive.any():
            break
        z = np.where(alive, z * z + c, z)
        steps += alive
    tone = steps / steps.max() * 6.283
    waves = [np.sin(tone * k + p) * 95 + 128 for k, p in ((3.0, 0.0), (5.0, 1.5), (7.0, 3.0))]
    return np.stack(waves, axis=-1).astype(np.uint8)
