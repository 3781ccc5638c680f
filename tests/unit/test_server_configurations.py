"""The recommended configurations of external image servers give a reason for each value; the
templates of CloudFormation are valid.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from orchestrator.model import AssetId

CONFIG = Path(__file__).parents[2] / "config"
FILES = ("cantaloupe.properties", "cantaloupe-special.properties", "iipsrv.env")


@pytest.mark.parametrize("name", FILES)
def test_each_value_stands_below_its_reason(name: str) -> None:
    for block in (CONFIG / name).read_text().strip().split("\n\n"):
        comment, *_ = block.splitlines()
        assert comment.startswith("# "), f"{block} has no reason"


@pytest.mark.parametrize("name", FILES)
def test_each_line_is_a_comment_or_one_value_and_no_key_occurs_twice(name: str) -> None:
    lines = (CONFIG / name).read_text().splitlines()
    keys = [line.partition("=")[0].strip() for line in lines if line and line[0] != "#"]
    assert all("=" in line for line in lines if line and line[0] != "#")
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("name", ["cloudfront.yaml", "pyramid-events.yaml"])
def test_a_template_of_cloudformation_is_valid(name: str) -> None:
    command = Path(sys.executable).with_name("cfn-lint")
    checked = subprocess.run([command, CONFIG / name], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def purge_function() -> dict[str, Any]:
    """What the purge function of the CloudFront template defines."""
    text = (CONFIG / "cloudfront.yaml").read_text()
    code = text.partition("ZipFile: |\n")[2].partition("\n  PurgeUrl:")[0]
    defined: dict[str, Any] = {}
    exec(compile(textwrap.dedent(code), "purge", "exec"), defined)
    return defined


@pytest.mark.parametrize("name", ["page", "books/page 1.jpg"])
def test_the_purge_function_invalidates_every_address_of_the_asset(name: str) -> None:
    asset = AssetId(1, 2, name)
    patterns = purge_function()["paths"](asset.surrogate_key)
    identifier = quote(str(asset), safe="")
    segment = quote(name, safe="")
    for path in (
        f"/iiif/2/{identifier}/full/max/0/default.jpg",
        f"/iiif/3/{identifier}/info.json",
        f"/iiif-img/1/2/{segment}/info.json",
        f"/iiif-img/v2/1/2/{segment}/full/max/0/default.jpg",
        f"/iiif-manifest/1/2/{segment}",
        f"/iiif-manifest/v3/1/2/{segment}",
        f"/thumbs/1/2/{segment}/full/100,/0/default.jpg",
    ):
        assert any(path.startswith(each.removesuffix("*")) for each in patterns), path
    assert not any("/iiif/3/1%2F2%2Fother/".startswith(each.removesuffix("*")) for each in patterns)


def test_the_purge_function_refuses_a_wrong_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "right")
    event = {"headers": {"authorization": "Bearer wrong"}, "body": "{}"}
    assert purge_function()["handle"](event, None) == {"statusCode": 403}
