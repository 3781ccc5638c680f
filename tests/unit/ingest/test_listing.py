"""The pictures of a folder and their names."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidInput
from orchestrator.ingest.folder_listing import (
    HIDDEN,
    NOT_A_PICTURE,
    OUTSIDE,
    UNUSABLE_NAME,
    list_pictures,
    names_of,
    split_extension,
)

JPEG = b"\xff\xd8\xff\xe0 and so on"


def names(*paths: str) -> list[str]:
    return names_of([PurePosixPath(path) for path in paths])


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["cat.jpg", "dog.png"], ["cat", "dog"]),
        (["cat.jpg", "cat.png", "dog.png"], ["cat.jpg", "cat.png", "dog"]),
        (["a/cat.jpg", "b/cat.jpg", "cat.jpg"], ["a/cat", "b/cat", "cat"]),
        (["cat.jpg", "cat.jpg.png", "cat.png"], ["cat.jpg", "cat.jpg.png", "cat.png"]),
        (["cat", "cat.jpg"], ["cat", "cat.jpg"]),
        (["v1.2.jpg"], ["v1.2"]),
        (
            ["..a", "...jpg", "sub/..jpg", "b..jpg", "c."],
            ["..a", "...jpg", "sub/..jpg", "b.", "c."],
        ),
        (["100%.jpg", "a b.jpg"], ["100%", "a b"]),
    ],
)
def test_a_name_has_its_extension_only_if_two_would_be_equal(
    paths: list[str], expected: list[str]
) -> None:
    assert names(*paths) == expected


@given(st.sets(st.text("ab.", min_size=1, max_size=5).filter(lambda t: t.strip(".")), min_size=1))
def test_names_are_always_different(files: set[str]) -> None:
    found = names(*sorted(files))
    assert len(set(found)) == len(files)


def test_a_folder_is_listed_in_order_and_skipped_files_are_counted(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside.jpg"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    for path in (
        "b.jpg",
        "a.jpg",
        "sub/a.jpg",
        "sub/deep/c.JPEG",
        ".hidden.jpg",
        "back\\slash.jpg",
    ):
        (folder / path).write_bytes(JPEG)
    (folder / "readme.txt").write_text("hello")
    (folder / "empty.jpg").write_bytes(b"")
    outside.write_bytes(JPEG)
    (folder / "out.jpg").symlink_to(outside)
    (folder / "in.jpg").symlink_to(folder / "a.jpg")
    (folder / "loop").symlink_to(folder)
    (folder / "broken.jpg").symlink_to(folder / "nothing")

    listing = list_pictures(folder)

    assert [str(asset_id) for asset_id in listing.pictures] == [
        "1/1/a",
        "1/1/b",
        "1/1/in",
        "1/1/sub%2Fa",
        "1/1/sub%2Fdeep%2Fc",
        "1/1/empty",
    ]
    assert listing.skipped == {HIDDEN: 2, NOT_A_PICTURE: 3, OUTSIDE: 1, UNUSABLE_NAME: 1}


def test_a_file_in_no_supported_format_is_listed_and_changes_no_name_of_a_picture(
    tmp_path: Path,
) -> None:
    for path in ("a.jpg", "c.jpg.png"):
        (tmp_path / path).write_bytes(JPEG)
    for path in ("a.psd", "b.bmp.psd", "note.psd"):
        (tmp_path / path).write_bytes(b"8BPS\0\1")
    (tmp_path / "c.jpg").write_bytes(b"<html>")
    (tmp_path / "page.html").write_bytes(b"<html>")

    listing = list_pictures(tmp_path)

    assert {asset_id.name: path.name for asset_id, path in listing.pictures.items()} == {
        "a": "a.jpg",
        "c.jpg": "c.jpg.png",
        "a.psd": "a.psd",
        "b.bmp": "b.bmp.psd",
        "c": "c.jpg",
        "note": "note.psd",
    }
    assert listing.skipped == {NOT_A_PICTURE: 1}


def test_a_path_that_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not a readable folder"):
        list_pictures(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("page.tar.gz", ("page.tar", "gz")),
        ("page", ("page", "")),
        ("page.", ("page.", "")),
        (".page", (".page", "")),
        ("..page", ("..page", "")),
        (".page.jpg", (".page", "jpg")),
        ("...", ("...", "")),
    ],
)
def test_a_name_is_split_in_the_same_way_by_every_release_of_python(name, parts):
    assert split_extension(name) == parts
