"""Which pool answers a request, by its class, its asset, and the format and size of its source; and
what the pool is asked for.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.iiif.geometry import Limits, resolve
from orchestrator.iiif.syntax import parse_image_request
from orchestrator.model import AssetId, SourceKind
from orchestrator.routing.image_servers.image_target import image_target, name_on_nodes
from orchestrator.routing.image_servers.pools import ImageServerPools
from orchestrator.routing.image_servers.remote_pool import RemotePool
from orchestrator.routing.image_servers.selection import PoolRules, class_of
from orchestrator.settings import ImageServer, ImageServerPool, ImageServerRule
from tests.support.builders import a_source, an_asset


def image(path: str, width: int = 4000, height: int = 3000):
    return resolve(parse_image_request(tuple(path.split("/")), 3), (width, height), Limits())


TILE = image("0,0,512,512/512,512/0/default.jpg")
FULL = image("full/500,/0/default.jpg")


def asset(name: str = "page", kind: SourceKind = SourceKind.JPEG2000, location: str = "store:k"):
    source = a_source(kind=kind, location=location)
    return an_asset(id=AssetId(1, 1, name), width=4000, height=3000, source=source)


@pytest.mark.parametrize(
    ("rule", "asset_", "request_class", "is_chosen"),
    [
        ({}, asset(), "tile", True),
        ({"requests": ["full"]}, asset(), "full", True),
        ({"requests": ["full"]}, asset(), "tile", False),
        ({"requests": ["tile", "info"]}, asset(), "info", True),
        ({"asset_id": "^1/1/map-"}, asset("map-7"), "tile", True),
        ({"asset_id": "^1/1/map-"}, asset("page"), "tile", False),
        ({"sources": ["jpeg2000"]}, asset(), "tile", True),
        ({"sources": ["pyramid-tiff", "original"]}, asset(), "tile", False),
        ({"min_pixels": 12_000_000}, asset(), "tile", True),
        ({"min_pixels": 12_000_001}, asset(), "tile", False),
        ({"max_pixels": 12_000_000}, asset(), "tile", True),
        ({"max_pixels": 11_999_999}, asset(), "tile", False),
        ({"requests": ["full"], "sources": ["original"]}, asset(), "full", False),
    ],
)
def test_a_rule_chooses_by_all_of_its_conditions(rule, asset_, request_class, is_chosen) -> None:
    rules = PoolRules.of([ImageServerRule(pool="near", **rule)])
    assert rules.pool_for(request_class, asset_) == ("near" if is_chosen else "default")


def test_the_first_rule_that_matches_counts() -> None:
    rules = PoolRules.of(
        [
            ImageServerRule(pool="maps", asset_id="map"),
            ImageServerRule(pool="full", requests=["full"]),
            ImageServerRule(pool="rest"),
        ]
    )
    assert rules.pool_for("full", asset("map-1")) == "maps"
    assert rules.pool_for("full", asset()) == "full"
    assert rules.pool_for("tile", asset()) == "rest"


def test_an_image_of_the_whole_picture_is_full_in_any_spelling() -> None:
    assert class_of(FULL) == "full"
    assert class_of(image("0,0,4000,3000/500,/0/default.jpg")) == "full"
    assert class_of(TILE) == "tile"


def test_settings_without_tables_are_the_pools_default_and_special() -> None:
    pools = ImageServer(
        kind="iipimage", addresses=["http://a"], special_addresses=["http://b"], connections=7
    ).all_pools()
    assert {name: pool.kind for name, pool in pools.items()} == {
        "builtin": "builtin",
        "default": "iipimage",
        "special": "cantaloupe",
    }
    assert pools["default"].addresses == ["http://a"]
    assert (pools["special"].reads, pools["special"].connections) == ("objects", 7)


class Renderer:
    """A renderer with a recognisable answer."""

    async def render(self, asset, path, image):
        return b"built-in"

    async def check(self):
        return ""

    async def close(self):
        pass


def pools_with(**settings) -> ImageServerPools:
    pool = RemotePool(
        ImageServerPool(addresses=["http://127.0.0.1:1"], **settings), Renderer(), "far"
    )
    rules = PoolRules.of([ImageServerRule(pool="far", requests=["full"])])
    return ImageServerPools({"default": Renderer(), "far": pool}, rules)


async def test_nothing_is_orchestrated_for_a_pool_that_reads_objects() -> None:
    pools = pools_with(reads="objects")
    assert pools.reader_of(asset(location="store:1/1/page/3.jp2"), FULL) == (
        pools.remote["far"],
        "1/1/page/3.jp2",
    )
    assert pools.reader_of(asset(), TILE) is None, "another pool makes tiles"
    assert await pools.render(asset(), Path(), TILE) == b"built-in"


@pytest.mark.parametrize(
    ("asset_", "path"),
    [
        (asset(location="file:///pictures/page.jp2"), "full/500,/0/default.jpg"),
        (asset(kind=SourceKind.ORIGINAL), "full/500,/0/default.jpg"),
        (asset(), "full/500,/0/default.webp"),
    ],
    ids=["not in the store", "another format of source", "another format of image"],
)
async def test_what_such_a_pool_cannot_make_is_made_by_the_default_pool(asset_, path) -> None:
    pools = pools_with(reads="objects")
    assert pools.reader_of(asset_, image(path)) is None
    assert await pools.render(asset_, Path(), image(path)) == b"built-in"


def test_a_pool_that_reads_the_disk_gets_an_orchestrated_source() -> None:
    assert pools_with(reads="disk").reader_of(asset(), FULL) is None


@pytest.mark.parametrize(
    ("settings", "name", "target"),
    [
        ({}, "/data/a b.jp2", "/iiif/3/%2Fdata%2Fa%20b.jp2/full/500,/0/default.jpg"),
        ({}, "a+b;c.jp2", "/iiif/3/a%2Bb%3Bc.jp2/full/500,/0/default.jpg"),
        (
            {"slash_substitute": "--"},
            "1/1/page/3.jp2",
            "/iiif/3/1--1--page--3.jp2/full/500,/0/default.jpg",
        ),
        (
            {"path_templates": {"2": "/iiif/2/{path}/{image}"}},
            "a.jp2",
            "/iiif/2/a.jp2/full/500,/0/default.jpg",
        ),
        (
            {"path_templates": {"2": "/v2/{path}/{image}", "3": "/v3/{path}/{image}"}},
            "a.jp2",
            "/v3/a.jp2/full/500,/0/default.jpg",
        ),
        (
            {"kind": "iipimage"},
            "/data/a b.jp2",
            "/fcgi-bin/iipsrv.fcgi?IIIF=/data/a%20b.jp2/full/500,/0/default.jpg",
        ),
    ],
)
def test_the_target_has_the_identifier_as_the_nodes_decode_it(settings, name, target) -> None:
    assert image_target(ImageServerPool(**settings), name, FULL) == target


@pytest.mark.parametrize(
    ("root", "path", "name"),
    [
        ("", "/data/cache/a.jp2", "/data/cache/a.jp2"),
        ("/data", "/data/cache/a.jp2", "cache/a.jp2"),
        ("/data/", "/data/cache/a.jp2", "cache/a.jp2"),
        ("/dat", "/data/cache/a.jp2", "/data/cache/a.jp2"),
    ],
)
def test_a_path_is_mapped_to_the_folder_of_the_nodes(root, path, name) -> None:
    assert name_on_nodes(ImageServerPool(sources_root=root), path) == name
