"""Cantaloupe for a test: the contract double, or a real one if CANTALOUPE_URL (its address) and
CANTALOUPE_SOURCE_DIR (the folder of its FilesystemSource, writable from here) are set.

The real one must run as recorded: version 6 or 5, no caches, max_pixels 0, the API endpoint with
the credentials `api` and `secret`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.support import pictures
from tests.support.cantaloupe_double import CantaloupeDouble, cantaloupe_double

SIZE = (2400, 1800)


@dataclass(frozen=True)
class Cantaloupe:
    """A running Cantaloupe; `double` is None if it is a real one."""

    address: str
    folder: Path
    double: CantaloupeDouble | None


@contextmanager
def cantaloupe(folder: Path) -> Iterator[Cantaloupe]:
    """A Cantaloupe that reads `folder`, or the real one with a folder of its own."""
    address = os.environ.get("CANTALOUPE_URL", "")
    if address:
        yield Cantaloupe(address.rstrip("/"), Path(os.environ["CANTALOUPE_SOURCE_DIR"]), None)
        return
    with cantaloupe_double(folder) as double:
        yield Cantaloupe(double.address, folder, double)


def write_recorded_sources(folder: Path) -> None:
    """Pictures with the names, formats and sizes of those that the recorded requests name. They are
    a gradient, which is encoded and decoded fast.
    """
    picture = Image.merge("RGB", [Image.linear_gradient("L").resize(SIZE)] * 3)
    picture.save(folder / "dlcs.jp2", progression="RPCL", precinct_size=(256, 256), plt=True)
    picture.save(folder / "tiled.jp2", tile_size=(512, 512))
    picture.save(folder / "pyr.tif", compression="jpeg")
    picture.save(folder / "plain.jpg")
    pictures.colour_grid(folder / "67352ccc-d1b0-11e1-89ae-279075081939.png")
    (folder / "sub").mkdir(exist_ok=True)
    for name in ("a b+c.jp2", "sub/deep.jp2"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).hardlink_to(folder / "dlcs.jp2")
    whole = (folder / "dlcs.jp2").read_bytes()
    (folder / "truncated.jp2").write_bytes(whole[: len(whole) // 2])
    (folder / "garbage.jp2").write_bytes(bytes(range(256)) * 12)
    (folder / "empty.jp2").write_bytes(b"")
