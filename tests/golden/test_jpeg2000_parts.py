"""Parts of JPEG2000 files, read by the lists in the file, have the pixels of the whole file: from
local disk, and from a file that has no other bytes than those that were fetched for them.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import Damaged
from orchestrator.imaging.intervals import Spans, merge_spans
from orchestrator.imaging.jpeg2000 import binding
from orchestrator.imaging.jpeg2000.assembly import Assembler
from orchestrator.imaging.jpeg2000.jp2_layout import Jp2Layout, read_layout
from orchestrator.imaging.jpeg2000.part_headers import UnsafeParts
from orchestrator.imaging.jpeg2000.pieces import FileSpan
from orchestrator.imaging.jpeg2000.reader import Reader, area_of
from orchestrator.imaging.open_pictures import OpenPictures
from orchestrator.imaging.partial_source import (
    BytesMissing,
    PartialFile,
    needed_bytes,
    read_outline,
)
from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.render import render
from orchestrator.model import SourceKind
from tests.support import jp2_files as jp2
from tests.support import pictures

SIZE = (1500, 1050)
"""More pixels than a tile of which all packets are read, and than a level that is decoded whole."""
PAGE = 4096
STYLES = {
    "LRCP, layers, SOP, EPH": "-p LRCP -c [128,128],[64,64] -r 40,10,1 -SOP -EPH -n 4",
    "RLCP, tile-parts": "-p RLCP -c [64,256],[32,128] -TP R -n 4",
    "RPCL, tile-parts, list": "-p RPCL -c [256,256],[128,128],[64,64] -TP R -TLM -SOP -n 6",
    "RPCL, offset, lossy": "-p RPCL -c [128,64] -d 64,32 -I -EPH -n 4",
    "PCRL, layers": "-p PCRL -c [128,128] -r 40,10,1 -SOP -n 3",
    "PCRL, an odd offset": "-p PCRL -c [128,64] -d 37,53 -n 4",
    "CPRL, EPH, lossy": "-p CPRL -c [256,128],[128,128] -I -EPH -n 4",
    "CPRL, layers, large tiles": "-p CPRL -c [64,64] -r 30,1 -t 1400,1050 -n 3",
    "one precinct": "-p RPCL -TLM -n 5",
    "tiles, list": "-p RPCL -t 256,256 -TP R -TLM -n 5",
}
"""Options of opj_compress. All files have packet lengths (PLT)."""
WHOLE_PRECINCTS = "one precinct"


@pytest.fixture(scope="module", params=STYLES)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parts") / f"{request.param}.jp2"
    bands = 3 if "lossy" in request.param else 1
    path.write_bytes(encoded(path, STYLES[request.param], bands))
    return path


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untiled file with lists of its tile-parts and packets."""
    path = tmp_path_factory.mktemp("listed") / "a.jp2"
    path.write_bytes(encoded(path, "-p RPCL -c [128,128],[64,64] -TP R -TLM -n 4"))
    return path


def encoded(path: Path, options: str, bands: int = 1) -> bytes:
    planes = pictures.pattern(*SIZE, seed=3).transpose(2, 0, 1)[:bands]
    stream = jp2.codestream(path, planes, "-PLT", *options.split())
    return jp2.wrap(stream, jp2.colour(16 if bands == 3 else 17))


def regions_of(width: int, height: int, seed: str) -> Iterator[tuple[int, int, int, int]]:
    """Both corners, and some others."""
    chance = random.Random(seed)
    yield 0, 0, min(width, 256), min(height, 256)
    yield width - min(width, 90), height - min(height, 80), min(width, 90), min(height, 80)
    for _ in range(2):
        w, h = chance.randint(1, min(width, 300)), chance.randint(1, min(height, 300))
        yield chance.randint(0, width - w), chance.randint(0, height - h), w, h


def bytes_read(layout: Jp2Layout, path: Path, region: tuple[int, int, int, int]) -> int:
    with path.open("rb") as file:
        assembly = Assembler(layout).assemble(file, area_of(layout, 0, region), 0)
    return sum(piece.length for piece in assembly.pieces if isinstance(piece, FileSpan))


def test_parts_of_a_local_file_have_the_pixels_of_the_whole(path: Path) -> None:
    by_parts, ordinary = read_layout(path, by_parts=True), read_layout(path)
    for n in range(min(1, ordinary.header.usable_reductions) + 1):
        parts = Reader(binding.require(), by_parts, str(path), n)
        windows = Reader(binding.require(), ordinary, str(path), n)
        width, height = parts.dimensions
        whole = windows.read(0, 0, width, height).numpy()
        for x, y, w, h in regions_of(width, height, path.stem):
            got = parts.read(x, y, w, h).numpy()
            assert (got == windows.read(x, y, w, h).numpy()).all(), (n, x, y, w, h)
            # OpenJPEG rounds some lossy samples of a part and of the whole differently.
            difference = np.abs(got.astype(int) - whole[y : y + h, x : x + w])
            assert difference.max() <= ("lossy" in path.stem), (n, x, y, w, h)
    if path.stem != WHOLE_PRECINCTS:
        assert bytes_read(by_parts, path, (0, 0, 100, 100)) < 0.25 * path.stat().st_size


@contextmanager
def partial_file(path: Path) -> Iterator[tuple[str, Callable[[Recipe], int]]]:
    """The path of a file in memory that is as long as that at `path`, and a function that fetches
    what a recipe needs and returns how many bytes these are.
    """
    body, present = path.read_bytes(), Spans()
    descriptor = os.memfd_create("source", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, len(body))
    file = PartialFile(descriptor, len(body), present)

    def fetch(*spans: tuple[int, int]) -> None:
        for start, end in spans:
            first, last = start // PAGE * PAGE, min(-(-end // PAGE) * PAGE, len(body))
            os.pwrite(descriptor, body[first:last], first)
            present.add((first, last))

    def fetch_for(recipe: Recipe) -> int:
        while True:
            try:
                outline = read_outline(file)
                assert outline
                part = needed_bytes(outline, recipe, file)
            except BytesMissing as missing:
                fetch(*missing.spans)
            else:
                assert part, "the whole file is needed"
                fetch(*part.spans)
                return sum(
                    end - start for start, end in merge_spans(part.spans, gap=0, max_spans=10**6)
                )

    try:
        yield f"/proc/{os.getpid()}/fd/{descriptor}", fetch_for
    finally:
        os.close(descriptor)


def recipe_of(path: str, region: tuple[int, int, int, int], size: tuple[int, int]) -> Recipe:
    return Recipe(path, SourceKind.JPEG2000, SIZE, 3, region, size, format="png")


def test_parts_of_a_remote_file_have_the_pixels_of_the_whole(path: Path) -> None:
    if path.stem == WHOLE_PRECINCTS:
        pytest.skip("a precinct of the size of the image is most of its bytes")
    local = OpenPictures(10**8, sandboxed=True)
    views = [((400, 300, 256, 256), (256, 256)), ((1440, 1000, 60, 50), (60, 50))]
    if "-TP R" in STYLES[path.stem]:  # others scatter the lower resolutions over the file
        views.append(((400, 300, 512, 512), (64, 64)))
    for region, size in views:
        with partial_file(path) as (remote, fetch_for):
            needed = fetch_for(recipe_of(remote, region, size))
            assert 0 < needed < 0.5 * path.stat().st_size
            body = render(recipe_of(remote, region, size), OpenPictures(10**8, sandboxed=True))
            whole = render(recipe_of(str(path), region, size), local)
            assert body == whole, region


def test_bytes_that_were_not_fetched_are_not_decoded_as_empty_packets(listed: Path) -> None:
    path = listed
    here, elsewhere = (0, 0, 200, 200), (900, 600, 200, 200)
    with partial_file(path) as (remote, fetch_for):
        fetch_for(recipe_of(remote, here, (200, 200)))
        for _ in range(2):
            with pytest.raises(Damaged):
                render(
                    recipe_of(remote, elsewhere, (200, 200)), OpenPictures(10**8, sandboxed=True)
                )
            render(recipe_of(remote, here, (200, 200)), OpenPictures(10**8, sandboxed=True))


def a_length_too_large(body: bytes) -> bytes:
    """The first packet length, of one byte, says one more."""
    at = body.index(b"\xff\x58") + 5
    while body[at] > 126:
        at += 1
    return body[:at] + bytes([body[at] + 1]) + body[at + 1 :]


def another_style_in_a_tile(body: bytes) -> bytes:
    """The header of the first tile-part repeats the COD of the main header, where its PLT was."""
    at, main = body.index(b"\xff\x58"), body.index(b"\xff\x52")
    (room,), (length,) = (struct.unpack_from(">H", body, place + 2) for place in (at, main))
    filler = b"\xff\x64" + struct.pack(">HH", room - length - 2, 0)
    style = body[main : main + 2 + length] + filler + bytes(room - length - 6)
    return body[:at] + style + body[at + 2 + room :]


def another_number_of_tile_parts(body: bytes) -> bytes:
    at = body.index(b"\xff\x90\x00\x0a")
    return body[: at + 11] + bytes([200]) + body[at + 12 :]


def another_length_in_the_list(body: bytes) -> bytes:
    """Two tile-parts of the list (TLM) exchange a byte."""
    at = body.index(b"\xff\x55") + 6
    wide = bool(body[at - 1] & 0x40)
    step = (body[at - 1] >> 4 & 3) + (4 if wide else 2)
    changed = bytearray(body)
    changed[at + step - 1] = (changed[at + step - 1] + 1) % 256
    changed[at + 2 * step - 1] = (changed[at + 2 * step - 1] - 1) % 256
    return bytes(changed)


@pytest.mark.parametrize(
    "change",
    [
        a_length_too_large,
        another_style_in_a_tile,
        another_number_of_tile_parts,
        another_length_in_the_list,
    ],
    ids=lambda change: change.__name__,
)
def test_a_file_whose_lists_are_wrong_is_read_without_them(
    tmp_path: Path, listed: Path, change: Callable[[bytes], bytes]
) -> None:
    right, wrong, body = listed, tmp_path / "wrong.jp2", listed.read_bytes()
    wrong.write_bytes(change(body))
    local = OpenPictures(10**8, sandboxed=True)
    for region in ((300, 300, 250, 200), (0, 0, 700, 900), (300, 300, 250, 200)):
        size = region[2:]
        expected = render(recipe_of(str(right), region, size), local)
        assert render(recipe_of(str(wrong), region, size), local) == expected
    layout = read_layout(wrong, by_parts=True)
    whole = bytes_of_a_part(layout, wrong)
    assert whole is None or whole > 0.5 * len(body), "the lists are not used"
    with partial_file(wrong) as (remote, fetch_for), pytest.raises(AssertionError):
        fetch_for(recipe_of(remote, (300, 300, 250, 200), (250, 200)))


def bytes_of_a_part(layout: Jp2Layout, path: Path) -> int | None:
    """What is read of a file for a small region; None if its lists contradict it."""
    try:
        return bytes_read(layout, path, (0, 0, 100, 100))
    except UnsafeParts:
        return None
