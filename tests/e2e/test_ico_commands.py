"""`orchestrator ico encode`, `decode` and `render`: on local files, with no service running."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.conftest import Command
from tests.support import pictures

EXAMPLE = "d2lkdGg9NTAwLGZpdD1jcm9wCg=="


def test_encoded_parameters_are_decoded_again(command: Command) -> None:
    encoded = command("ico", "encode", "width=500,fit=crop")
    assert (encoded.status, encoded.out) == (0, "d2lkdGg9NTAwLGZpdD1jcm9w\n")
    decoded = command("ico", "decode", EXAMPLE)
    assert (decoded.status, decoded.out) == (0, "width=500,fit=crop\n")


def test_json_has_the_canonical_form_and_each_parameter(command: Command) -> None:
    row = command("ico", "decode", "height=9,width=7,crop=smart", "--json").json
    assert row["canonical"] == "width=7,height=9,crop=smart"
    assert (row["text"], row["width"], row["quality"]) == ("height=9,width=7,crop=smart", 7, 75)
    row = command("ico", "encode", "width=7,fit=clip", "--json").json
    assert row == {"params": "d2lkdGg9NyxmaXQ9Y2xpcA==", "text": "width=7,fit=clip",
                   "canonical": "width=7"}  # fmt: skip


@pytest.mark.parametrize("name", ["encode", "decode"])
def test_wrong_parameters_are_refused_with_the_key(command: Command, name: str) -> None:
    done = command("ico", name, "widht=500")
    assert (done.status, done.out) == (1, "")
    assert "widht" in done.err


def test_a_local_file_is_rendered_without_services(command: Command, tmp_path: Path) -> None:
    source, target = pictures.jpeg(tmp_path / "in.jpg", 600, 600), tmp_path / "out.jpg"
    done = command("ico", "render", source, target, EXAMPLE, "--json", "--data", tmp_path / "data")
    assert done.status == 0, done.err
    assert done.json == {
        "file": str(target),
        "mediaType": "image/jpeg",
        "bytes": target.stat().st_size,
        "original": False,
        "canonical": "width=500",
    }
    assert Image.open(io.BytesIO(target.read_bytes())).size == (500, 500)
    assert not (tmp_path / "data").exists()


def test_render_returns_the_original_where_a_url_does(command: Command, tmp_path: Path) -> None:
    source, target = pictures.png(tmp_path / "in.png", 60, 40), tmp_path / "out.png"
    done = command("ico", "render", source, target, "width=5000")
    assert done.out == f"{target}: image/png, {source.stat().st_size} bytes, the original\n"
    assert target.read_bytes() == source.read_bytes()


def test_render_refuses_what_a_url_refuses(command: Command, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jpg", tmp_path / "out.jpg"
    assert "no file" in command("ico", "render", source, target, "width=5").err
    source.write_text("<html>")
    done = command("ico", "render", source, target, "width=5")
    assert (done.status, target.exists()) == (1, False)
    assert "not in a supported format" in done.err
    pictures.jpeg(source, 60, 40)
    body = source.read_bytes()
    assert command("ico", "render", source, source, "width=5").status == 1
    assert source.read_bytes() == body
