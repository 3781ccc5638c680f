"""Optimised origins: no copy in the object store, thumbnails are made, and the bytes of a replaced
origin are never served.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from PIL import Image

from tests.e2e.conftest import Done, run_command
from tests.support import pictures
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)
from tests.support.weed import BUCKET, CREDENTIALS, s3_settings, weed

DIGITISED = "digitised"
TILE = "256,256,256,256/256,256/0/default.jpg"


@dataclass(frozen=True)
class Installation:
    server: ServeProcess
    env: dict[str, str]
    s3: Any
    folder: Path

    def command(self, *words: object) -> Done:
        return run_command(*words, "--data", self.server.data, env=self.env)

    def put(self, path: Path, key: str) -> str:
        """Upload the file; returns the customer's address of it."""
        self.s3.put_object(Bucket=DIGITISED, Key=key, Body=path.read_bytes())
        return f"https://{DIGITISED}.s3.eu-west-1.amazonaws.com/{key.replace(' ', '%20')}"

    def stored(self, name: str) -> list[str]:
        """Return the object keys of the asset `1/1/{name}`, without its prefix and version."""
        answer = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"1/1/{name}/")
        keys = [entry["Key"] for entry in answer.get("Contents", ())]
        return sorted(key.split("/", 4)[4] for key in keys)

    def shown(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.command("images", "show", f"1/1/{name}", "--json").json
        return found

    def tile(self, name: str, tile: str = TILE) -> Any:
        return fetch(f"{self.server.public}/iiif/3/1%2F1%2F{name}/{tile}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("origins")
    with ExitStack() as stack:
        endpoint = stack.enter_context(weed(tmp_path_factory.mktemp("weed")))
        access, secret = CREDENTIALS
        client = botocore.session.get_session().create_client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=access,
            aws_secret_access_key=secret,
        )
        stack.callback(client.close)
        client.create_bucket(Bucket=DIGITISED)
        env = s3_settings(endpoint) | {"ORCHESTRATOR_INGEST__ALLOW_PRIVATE_ADDRESSES": "true"}
        server = stack.enter_context(run_server(env=env))
        installation = Installation(server, env, client, folder)
        keys = folder / "keys.json"
        keys.write_text(
            json.dumps({"access_key": access, "secret_key": secret, "endpoint": endpoint})
        )
        done = installation.command(
            "origins", "add", 1, "digitised", "s3", "--credentials", keys, "--optimised", "--json"
        )
        assert done.status == 0, done.err
        assert done.json["credentials"] == "xxx"
        assert secret not in done.out
        yield installation
        assert_log_clean(server.log())


def test_a_pyramid_in_a_bucket_is_served_without_a_copy_in_the_store(site: Installation) -> None:
    origin = site.put(pictures.pyramid_tiff(site.folder / "map.tif", 1500, 1100), "a map.tif")
    tested = site.command("origins", "test", 1, origin, "--json")
    assert tested.status == 0, tested.out + tested.err
    assert tested.json["strategy"]["optimised"]
    done = site.command("ingest", origin, "--id", "1/1/map", "--json")
    assert done.status == 0, done.out + done.err

    shown = site.shown("map")
    assert shown["source"] == "s3://eu-west-1/digitised/a%20map.tif"
    assert site.stored("map") == [
        "open/100.jpg",
        "open/1000.jpg",
        "open/200.jpg",
        "open/400.jpg",
        "s.json",
    ]
    tile = site.tile("map")
    assert tile.status == 200
    assert Image.open(io.BytesIO(tile.body)).size == (256, 256)
    thumbnail = site.tile("map", "full/!400,400/0/default.jpg")
    assert thumbnail.status == 200
    copies = list((site.server.data / "cache" / "sources").rglob("*.tif"))
    assert len(copies) == 1

    again = site.command("ingest", origin, "--id", "1/1/map", "--json")
    assert again.json["images"][0]["outcome"] == "unchanged"


def test_with_any_other_policy_a_copy_is_made(site: Installation) -> None:
    origin = site.put(pictures.pyramid_tiff(site.folder / "copy.tif", 600, 500), "copy.tif")
    done = site.command("ingest", origin, "--id", "1/1/copy", "--policy", "fastest", "--json")
    assert done.status == 0, done.out + done.err
    assert site.shown("copy")["source"].startswith("store:")
    assert any(key.startswith(("source", "original")) for key in site.stored("copy"))
    assert site.tile("copy", "0,0,256,256/256,256/0/default.jpg").status == 200


def test_a_replaced_object_is_never_served_in_part_and_is_ingested_again_by_itself(
    site: Installation,
) -> None:
    origin = site.put(pictures.pyramid_tiff(site.folder / "old.tif", 900, 700), "changing.tif")
    assert site.command("ingest", origin, "--id", "1/1/changing").status == 0
    site.put(pictures.pyramid_tiff(site.folder / "new.tif", 800, 600, seed=5), "changing.tif")
    tile = "0,0,256,256/256,256/0/default.jpg"
    assert site.tile("changing", tile).status == 503
    wait_until(lambda: site.tile("changing", tile).status == 200, "it is ingested again", 60)
    assert (site.shown("changing")["width"], site.shown("changing")["height"]) == (800, 600)


def test_a_local_file_is_served_without_a_copy_in_the_store(site: Installation) -> None:
    path = pictures.pyramid_tiff(site.folder / "local map.tif", 1200, 900)
    assert site.command("origins", "add", 1, "local map", "file", "--optimised").status == 0
    done = site.command("ingest", path, "--id", "1/1/local", "--json")
    assert done.status == 0, done.out + done.err
    assert site.shown("local")["source"] == f"file://{path}"
    assert not any(key.startswith(("source", "original")) for key in site.stored("local"))
    assert site.tile("local").status == 200


def test_the_test_command_exits_with_status_1_and_prints_the_fault(site: Installation) -> None:
    missing = f"https://{DIGITISED}.s3.eu-west-1.amazonaws.com/none.tif"
    done = site.command("origins", "test", 1, missing)
    assert done.status == 1
    assert "origin_not_found" in done.out


def test_strategies_are_listed_resealed_and_deleted(site: Installation) -> None:
    added = site.command("origins", "add", 1, "for a while", "ftp", "--place", 9, "--json")
    listed = site.command("origins", "list", 1)
    assert "digitised" in listed.out
    assert "for a while" in listed.out
    assert CREDENTIALS[1] not in listed.out
    assert site.command("origins", "reseal").out == "1 sealed\n"
    assert site.command("origins", "delete", 1, added.json["id"]).status == 0
    again = site.command("origins", "delete", 1, added.json["id"])
    assert (again.status, again.err) == (1, "orchestrator: There is no such origin strategy.\n")
    assert "for a while" not in site.command("origins", "list", 1).out
