"""Local files as origins."""

import hashlib
import os
from pathlib import Path

import pytest

from orchestrator.errors import InvalidInput, OriginUnavailable, TooLarge, Unprocessable
from orchestrator.origins.access_resolver import AccessResolver
from orchestrator.origins.file_reader import FileReader
from orchestrator.origins.origin_fetcher import OriginFetcher
from orchestrator.origins.origin_kinds import OriginKind
from orchestrator.settings import Ingest

BODY = b"\xff\xd8\xff" + b"x" * 1000


@pytest.fixture
def fetcher() -> OriginFetcher:
    return OriginFetcher(
        {OriginKind.FILE: FileReader()}, AccessResolver(), settings=Ingest(max_bytes=2000)
    )


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
async def test_a_file_is_copied_and_its_fingerprint_is_time_and_size(
    fetcher: OriginFetcher, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(BODY)
    fetched = await fetcher.fetch(1, form.format(path), tmp_path / "original")
    assert fetched.path.read_bytes() == BODY
    assert fetched.sha256 == hashlib.sha256(BODY).hexdigest()
    assert fetched.fingerprint == f"{path.stat().st_mtime_ns}-{len(BODY)}"


async def test_a_path_is_literal_and_an_address_is_percent_decoded(
    fetcher: OriginFetcher, tmp_path: Path
) -> None:
    (tmp_path / "100%25 a.jpg").write_bytes(BODY)
    (tmp_path / "100% a.jpg").write_bytes(BODY + b"y")
    literal = await fetcher.fetch(1, f"{tmp_path}/100%25 a.jpg", tmp_path / "1")
    decoded = await fetcher.fetch(1, f"file://{tmp_path}/100%25%20a.jpg", tmp_path / "2")
    assert (literal.bytes, decoded.bytes) == (len(BODY), len(BODY) + 1)


async def test_only_regular_files_are_read(fetcher: OriginFetcher, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OriginUnavailable, match="not a regular file"):
            await fetcher.fetch(1, str(path), tmp_path / "original")
    with pytest.raises(OriginUnavailable, match="no such file") as caught:
        await fetcher.fetch(1, str(tmp_path / "none"), tmp_path / "original")
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("body", "error"),
    [(b"", Unprocessable), (b"<!DOCTYPE html>", Unprocessable), (b"x" * 2001, TooLarge)],
    ids=["empty", "html", "too large"],
)
async def test_a_file_that_is_no_image_or_too_large_is_refused(
    fetcher: OriginFetcher, tmp_path: Path, body: bytes, error: type[Exception]
) -> None:
    (tmp_path / "a.jpg").write_bytes(body)
    with pytest.raises(error):
        await fetcher.fetch(1, str(tmp_path / "a.jpg"), tmp_path / "original")


@pytest.mark.parametrize(
    "origin",
    ["a.jpg", "", "file://host/a.jpg", "file:a.jpg", "s3://bucket/a.jpg", "//host/a", "x:"],
)
async def test_an_origin_that_is_no_local_file_is_refused(
    fetcher: OriginFetcher, tmp_path: Path, origin: str
) -> None:
    with pytest.raises((InvalidInput, OriginUnavailable)):
        await fetcher.fetch(1, origin, tmp_path / "original")
