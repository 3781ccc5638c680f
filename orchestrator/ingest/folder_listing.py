"""Lists the pictures of a folder with their asset names. Reads only the first bytes of each file.

A name is the path below the folder without the extension. If two pictures would have the same name,
their names keep the extension.

A file that is not in a supported format is listed too, so that its asset says why it is not served:
if it has the extension of a picture, or is in a known format of images. It never changes the name
of a picture.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from orchestrator.errors import InvalidImageRequest, InvalidInput, Unprocessable, Unsupported
from orchestrator.imaging.formats.file_type import sniff_file
from orchestrator.model import AssetId

HIDDEN, NOT_A_PICTURE, UNREADABLE = "hidden", "not a picture", "unreadable"
OUTSIDE, UNUSABLE_NAME = "link to outside the folder", "name cannot be an identifier"
_EXTENSIONS = frozenset(
    [
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "png",
        "tif",
        "tiff",
        "btf",
        "jp2",
        "jpx",
        "jpf",
        "jpm",
        "j2k",
        "j2c",
        "jpc",
        "jph",
        "jhc",
        "gif",
        "webp",
        "heic",
        "heif",
        "hif",
        "avif",
        "svg",
        "svgz",
        "pdf",
    ]
)


@dataclass(frozen=True, slots=True)
class Listing:
    """The pictures of a folder by asset id, and the number of skipped files by reason. Pictures in
    a format that is not supported follow the others; each part is sorted by path.
    """

    root: Path
    pictures: dict[AssetId, Path]
    skipped: Counter[str] = field(default_factory=Counter)


def list_pictures(folder: Path, customer: int = 1, space: int = 1) -> Listing:
    """Walk `folder` (blocking). Raises InvalidInput if it is not a readable folder."""
    root = folder.resolve()
    try:
        next(root.iterdir(), None)
    except OSError as error:
        raise InvalidInput(
            f"{folder} is not a readable folder. Check the path and its permissions."
        ) from error
    skipped: Counter[str] = Counter()
    paths: list[Path] = []
    refused: list[Path] = []
    for path in _files(root, skipped):
        if _is_inside(path, root, skipped):
            _sort_in(path, paths, refused, skipped)
    names = names_of([PurePosixPath(path.relative_to(root)) for path in paths])
    names += _other_names([PurePosixPath(path.relative_to(root)) for path in refused], names)
    pictures: dict[AssetId, Path] = {}
    for path, name in zip(paths + refused, names, strict=True):
        try:
            name.encode()
            pictures.setdefault(AssetId(customer, space, name), path)
        except (InvalidImageRequest, UnicodeEncodeError):
            skipped[UNUSABLE_NAME] += 1
    return Listing(root, pictures, skipped)


def names_of(paths: Sequence[PurePosixPath]) -> list[str]:
    """Return a different name for each relative path, without the extension where possible."""
    names = [_without_extension(path) for path in paths]
    while True:
        uses = Counter(names)
        clashing = [n for n, name in enumerate(names) if uses[name] > 1 and name != str(paths[n])]
        if not clashing:
            return names
        for n in clashing:
            names[n] = str(paths[n])


def split_extension(name: str) -> tuple[str, str]:
    """The file name without its extension, and the extension without its point, "" if there is
    none. Points at the beginning of a name belong to the name. `stem`, `suffix` and `with_suffix`
    of pathlib differ between releases of Python in names that begin or end with a point.
    """
    stem, _, extension = name.rpartition(".")
    return (stem, extension) if stem.strip(".") and extension else (name, "")


def _without_extension(path: PurePosixPath) -> str:
    return str(path.with_name(split_extension(path.name)[0]))


def _files(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            sorted_entries = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        skipped[UNREADABLE] += 1
        return
    for entry in sorted_entries:
        if entry.name.startswith("."):
            skipped[HIDDEN] += 1
        elif entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), skipped)
        elif entry.is_file():  # links to files are followed, links to folders are not
            yield Path(entry.path)
        else:
            skipped[NOT_A_PICTURE] += 1


def _is_inside(path: Path, root: Path, skipped: Counter[str]) -> bool:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        skipped[OUTSIDE] += 1
        return False
    return True


def _sort_in(path: Path, paths: list[Path], refused: list[Path], skipped: Counter[str]) -> None:
    """Add a file to the list that it belongs to, or count it as skipped."""
    try:
        sniff_file(path)
    except Unprocessable as error:
        has_extension = split_extension(path.name)[1].lower() in _EXTENSIONS
        if has_extension or isinstance(error, Unsupported):
            refused.append(path)
        else:
            skipped[NOT_A_PICTURE] += 1
    except OSError:
        skipped[UNREADABLE] += 1
    else:
        paths.append(path)


def _other_names(paths: Sequence[PurePosixPath], taken: Sequence[str]) -> list[str]:
    """Return names as `names_of` that differ from those in `taken`."""
    used = frozenset(taken)
    names = zip(paths, names_of(paths), strict=True)
    return [str(path) if name in used else name for path, name in names]
