"""Tells a full disk from a damaged picture.

OpenJPEG and libtiff do not say why a write failed, and `tiffsave` of libvips 8.14 ends the process
when it cannot write a pyramid. So the free space of the folder decides, too.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import NoRoom
from orchestrator.imaging import vips
from orchestrator.imaging.jpeg2000.binding import CodestreamError

_FULL_BYTES = 16 * 1024**2
_NO_ROOM = "There is not enough free disk space for a conversion. Free disk space."


def is_disk_full(folder: Path) -> bool:
    """True if the disk of `folder`, or the one of temporary files, has no room (blocking). libvips
    keeps the small levels of a pyramid in a temporary file.
    """
    folders = (folder, Path(tempfile.gettempdir()))
    return any(shutil.disk_usage(each).free < _FULL_BYTES for each in folders)


@contextmanager
def full_disk_reported(folder: Path) -> Iterator[None]:
    """Raise NoRoom instead of the error of a library that could not write to `folder`."""
    try:
        yield
    except (vips.VipsError, CodestreamError) as error:
        no_space = os.strerror(errno.ENOSPC).lower()
        if no_space in str(error).lower() or is_disk_full(folder):
            raise NoRoom(_NO_ROOM) from error
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom(_NO_ROOM) from error
        raise


def no_room() -> NoRoom:
    """The error for a worker that ended because its disk was full."""
    return NoRoom(_NO_ROOM)
