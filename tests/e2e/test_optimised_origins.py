"""Origins that are served from where they are: nothing of them is copied but to fast disk, their
thumbnails are made, and other bytes there are never answered for theirs.
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
from tests.support.serve_process import ServeProcess, assert_log_clean, fetch, run_server
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
        """The address the customer knows the file by."""
        self.s3.put_object(Bucket=DIGITISED, Key=key, Body=path.read_bytes())
        return f"https://{DIGITISED}.s3.eu-west-1.amazonaws.com/{key.replace(' ', '%20')}"

    def stored(self, name: str) -> list[str]:
        """What our own store has of the asset `1/1/{name}`, without its version."""
        answer = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"1/1/{name}/")
        keys = [entry["Key"] for entry in answer.get("Contents", ())]
        return sorted(key.split("/", 4)[4] for key in keys)

    def shown(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.command("images", "show", f"1/1/{name}", "--json").json
        return found

    def tile(self, name: str, tile: str = TILE) -> Any:
        return fetch(f"{self.server.public}/iiif/3/1%2F1%2F{name}/{tile}")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
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
        server = stack.enter_context(run_server(None, workers=2, env=env))
        one = Installation(server, env, client, folder)
        keys = folder / "keys.json"
        keys.write_text(
            json.dumps({"access_key": access, "secret_key": secret, "endpoint": endpoint})
        )
        done = one.command(
            "origins", "add", 1, "digitised", "s3", "--credentials", keys, "--optimised", "--json"
        )
        assert done.status == 0, done.err
        assert done.json["credentials"] == "xxx"
        assert secret not in done.out
        yield one
        assert_log_clean(server.log())


def test_a_pyramid_in_a_bucket_is_served_without_a_copy_in_the_store(here: Installation) -> None:
    origin = here.put(pictures.pyramid_tiff(here.folder / "map.tif", 1500, 1100), "a map.tif")
    tested = here.command("origins", "test", 1, origin, "--json")
    assert tested.status == 0, tested.out + tested.err
    assert tested.json["strategy"]["optimised"]
    done = here.command("ingest", origin, "--id", "1/1/map", "--json")
    assert done.status == 0, done.out + done.err

    shown = here.shown("map")
    assert shown["source"] == "s3://eu-west-1/digitised/a%20map.tif"
    assert here.stored("map") == [
        "open/100.jpg",
        "open/1000.jpg",
        "open/200.jpg",
        "open/400.jpg",
        "s.json",
    ]
    tile = here.tile("map")
    assert tile.status == 200
    assert Image.open(io.BytesIO(tile.body)).size == (256, 256)
    thumbnail = here.tile("map", "full/!400,400/0/default.jpg")
    assert thumbnail.status == 200
    copies = list((here.server.data / "cache" / "sources").rglob("*.tif"))
    assert len(copies) == 1

    again = here.command("ingest", origin, "--id", "1/1/map", "--json")
    assert again.json["images"][0]["outcome"] == "unchanged"


def test_with_any_other_policy_a_copy_is_made(here: Installation) -> None:
    origin = here.put(pictures.pyramid_tiff(here.folder / "copy.tif", 600, 500), "copy.tif")
    done = here.command("ingest", origin, "--id", "1/1/copy", "--policy", "fastest", "--json")
    assert done.status == 0, done.out + done.err
    assert here.shown("copy")["source"].startswith("store:")
    assert any(key.startswith(("source", "original")) for key in here.stored("copy"))
    assert here.tile("copy", "0,0,256,256/256,256/0/default.jpg").status == 200


def test_an_object_that_was_replaced_is_not_answered_for_the_one_recorded(
    here: Installation,
) -> None:
    origin = here.put(pictures.pyramid_tiff(here.folder / "old.tif", 900, 700), "changing.tif")
    assert here.command("ingest", origin, "--id", "1/1/changing").status == 0
    here.put(pictures.pyramid_tiff(here.folder / "new.tif", 900, 700, seed=5), "changing.tif")
    tile = "0,0,256,256/256,256/0/default.jpg"
    assert here.tile("changing", tile).status == 503
    assert here.command("ingest", origin, "--id", "1/1/changing").status == 0
    assert here.tile("changing", tile).status == 200


def test_a_file_is_served_from_where_it_is(here: Installation) -> None:
    path = pictures.pyramid_tiff(here.folder / "local map.tif", 1200, 900)
    assert here.command("origins", "add", 1, "local map", "file", "--optimised").status == 0
    done = here.command("ingest", path, "--id", "1/1/local", "--json")
    assert done.status == 0, done.out + done.err
    assert here.shown("local")["source"] == f"file://{path}"
    assert not any(key.startswith(("source", "original")) for key in here.stored("local"))
    assert here.tile("local").status == 200


def test_the_dry_run_exits_with_one_and_names_the_fault(here: Installation) -> None:
    missing = f"https://{DIGITISED}.s3.eu-west-1.amazonaws.com/none.tif"
    done = here.command("origins", "test", 1, missing)
    assert done.status == 1
    assert "origin_not_found" in done.out


def test_strategies_are_listed_sealed_anew_and_deleted(here: Installation) -> None:
    added = here.command("origins", "add", 1, "for a while", "ftp", "--place", 9, "--json")
    listed = here.command("origins", "list", 1)
    assert "digitised" in listed.out
    assert "for a while" in listed.out
    assert CREDENTIALS[1] not in listed.out
    assert here.command("origins", "reseal").out == "1 sealed\n"
    assert here.command("origins", "delete", 1, added.json["id"]).status == 0
    again = here.command("origins", "delete", 1, added.json["id"])
    assert (again.status, again.err) == (1, "orchestrator: There is no such origin strategy.\n")
    assert "for a while" not in here.command("origins", "list", 1).out
