"""An ingest of unchanged bytes converts and writes nothing, but applies the rest of the request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import Fault, OriginUnavailable
from orchestrator.imaging import Probe
from orchestrator.ingest.register import Request
from orchestrator.model import Asset, AssetId, AssetState
from tests.support import pictures
from tests.support.ingesting import IngestSystem
from tests.support.origins import OriginServer

pytestmark = pytest.mark.asyncio(loop_scope="session")
ID = AssetId(1, 1, "picture")


@pytest.fixture
def request_(system: IngestSystem, origin: OriginServer) -> Request:
    origin.files["/a.jpg"] = pictures.jpeg(system.pictures / "a.jpg", 300, 200).read_bytes()
    return Request(ID, origin.url("/a.jpg"))


async def outcomes(system: IngestSystem) -> list[str]:
    return [attempt.outcome for attempt in await system.catalog.attempts.of(ID)]


async def test_an_unchanged_etag_saves_the_download(
    system: IngestSystem, origin: OriginServer, request_: Request
) -> None:
    first = (await system.ingest(request_)).asset
    assert first.origin_etag
    again = await system.ingest(request_)
    assert (again.changed, again.bytes, again.asset.version) == (False, 0, first.version)
    assert origin.headers[-1]["if-none-match"] == first.origin_etag
    assert (again.asset.state, again.asset.error) == (AssetState.READY, "")
    assert await outcomes(system) == ["unchanged", "completed"]


async def test_the_same_bytes_under_another_etag_are_recognised_by_their_hash(
    system: IngestSystem, request_: Request
) -> None:
    first = (await system.ingest(request_)).asset
    async with system.catalog.transaction() as connection:
        await connection.execute("UPDATE assets SET origin_etag = '\"another\"'")
    system.store.log.clear()
    again = await system.ingest(request_)
    assert not again.changed
    assert again.bytes > 0
    assert system.store.log == []
    assert again.asset.origin_etag == first.origin_etag


async def test_a_file_written_again_with_the_same_bytes_is_not_converted_again(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    first = (await system.ingest(Request(ID, str(path)))).asset
    for where in (path, system.pictures / "moved.jpg"):
        where.write_bytes(path.read_bytes())
        system.store.log.clear()
        again = await system.ingest(Request(ID, str(where)))
        assert (again.changed, again.asset.version) == (False, first.version)
        assert system.store.log == []
        assert again.asset.origin == str(where)
        once_more = await system.ingest(Request(ID, str(where)))
        assert (once_more.changed, once_more.bytes) == (False, 0)  # known by its status now


@pytest.mark.parametrize(
    "change",
    [{"force": True}, {"optimisation_policy": "max-quality"}],
    ids=["forced", "another policy"],
)
async def test_a_request_for_another_result_is_ingested(
    system: IngestSystem, request_: Request, change: dict[str, object]
) -> None:
    first = (await system.ingest(request_)).asset
    again = await system.ingest(replace(request_, **change))  # type: ignore[arg-type]
    assert again.changed
    assert again.asset.version > first.version


async def test_other_bytes_of_another_origin_with_the_same_etag_are_ingested(
    system: IngestSystem, origin: OriginServer, request_: Request
) -> None:
    await system.ingest(request_)
    origin.files["/b.jpg"] = pictures.jpeg(system.pictures / "b.jpg", 90, 60).read_bytes()
    asset = (await system.ingest(Request(ID, origin.url("/b.jpg")))).asset
    assert asset.dimensions == (90, 60)
    assert "if-none-match" not in origin.headers[-1]


@pytest.mark.parametrize("kind", ["file", "http"])
async def test_rights_and_description_of_the_request_are_applied_although_the_bytes_are_unchanged(
    system: IngestSystem, request_: Request, kind: str
) -> None:
    plain = request_ if kind == "http" else Request(ID, str(system.pictures / "a.jpg"))
    first = (await system.ingest(plain)).asset
    again = await system.ingest(
        replace(plain, roles=("reader",), max_unauthorised=100, tags=("new",), rights="http://r")
    )
    assert not again.changed
    asset = await system.asset()
    assert (asset.roles, asset.max_unauthorised) == (("reader",), 100)
    assert (asset.tags, asset.rights) == (("new",), "http://r")
    assert asset.version > first.version
    assert asset.source == first.source  # nothing was converted again
    assert [max(size) for size in asset.thumbnails.open] == [100, 50]
    assert (await system.ingest(plain)).asset.roles == ("reader",)
    await system.assert_exact()


async def test_a_lost_source_is_made_again_although_its_origin_is_unchanged(
    system: IngestSystem, request_: Request
) -> None:
    first = (await system.ingest(request_)).asset
    await system.pipeline.converter.record_failure(first, "The stored source no longer exists.")
    await system.pipeline.runner.accept(request_)
    assert (await system.ingest(request_)).changed


async def test_a_new_original_is_probed_once(
    system: IngestSystem, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    imaging = system.imaging
    probe, probed = imaging.probe, list[Path]()

    async def count_probe(path: Path) -> Probe:
        probed.append(path)
        return await probe(path)

    monkeypatch.setattr(imaging, "probe", count_probe)
    asset = (await system.ingest(request_)).asset
    assert asset.state is AssetState.READY
    assert len(probed) == 1


# --- declared, then ingested ----------------------------------------------------------------------


async def test_a_declared_asset_cannot_be_served_and_gets_no_conversion_job(
    system: IngestSystem, request_: Request
) -> None:
    asset = await system.pipeline.runner.accept(replace(request_, tags=("t",)), batch=7)
    assert (asset.state, asset.servable, asset.batch) == (AssetState.INGESTING, False, 7)
    assert (asset.tags, asset.origin) == (("t",), request_.origin)
    assert await system.pipeline.conversion_jobs.submit_missing() == 0
    done = (await system.ingest(request_)).asset
    assert (done.state, done.tags, done.batch) == (AssetState.READY, ("t",), 7)


async def test_declaring_a_served_asset_does_not_change_what_it_shows(
    system: IngestSystem, request_: Request
) -> None:
    first = (await system.ingest(request_)).asset
    declared = await system.pipeline.runner.accept(Request(ID, "http://other/x.jpg", roles=("r",)))
    assert declared.state is AssetState.INGESTING
    assert declared == replace(
        first,
        state=AssetState.INGESTING,
        finished=None,
        declared=declared.declared,
        generation=declared.generation,
        ingest_generation=declared.generation,
        requested=declared.requested,
    )
    assert declared.generation > first.generation
    assert declared.as_requested().roles == ("r",)


async def test_rights_changed_during_a_first_ingest_decide_where_its_thumbnails_are_stored(
    system: IngestSystem, request_: Request
) -> None:
    changed: list[Asset] = []

    async def restrict(key: str) -> None:
        if not changed:
            changed.append(await system.pipeline.editor.set_access(ID, roles=("secret",)))

    system.store.before_put = restrict
    asset = (await system.ingest(replace(request_, optimisation_policy="use-original"))).asset
    assert asset.roles == ("secret",)
    assert asset.thumbnails.open == ()
    assert asset.thumbnails.auth
    await system.sweep()
    assert not any("/open/" in key for key in await system.store.keys())
    await system.assert_exact()


async def test_narrower_rights_are_in_force_although_the_origin_fails(
    system: IngestSystem, origin: OriginServer, request_: Request
) -> None:
    await system.ingest(request_)
    with pytest.raises(OriginUnavailable):
        await system.ingest(Request(ID, origin.url("/status/404"), roles=("secret",)))
    asset = await system.asset()
    assert (asset.roles, asset.thumbnails.open) == (("secret",), ())
    with pytest.raises(OriginUnavailable):
        await system.ingest(Request(ID, origin.url("/status/404"), roles=()))
    assert (await system.asset()).roles == ("secret",)
    await system.sweep()
    await system.assert_exact()


async def test_a_description_changed_during_an_ingest_does_not_stop_it(
    system: IngestSystem, request_: Request
) -> None:
    await system.pipeline.runner.accept(request_)
    asset = await system.pipeline.editor.set_fields(ID, tags=["x"])
    assert (asset.state, asset.tags) == (AssetState.INGESTING, ("x",))


def if_retryable(error: Exception, fault: Fault) -> bool:
    return fault.retryable


async def test_a_failure_that_will_be_retried_leaves_the_asset_ingesting(
    system: IngestSystem, origin: OriginServer
) -> None:
    gone = Request(ID, origin.url("/status/503"))
    with pytest.raises(OriginUnavailable):
        await system.ingest(gone, job=5, will_retry=if_retryable)
    assert (await system.asset()).state is AssetState.INGESTING
    never = Request(ID, origin.url("/status/404"))
    runner = system.pipeline.runner
    generation = (await runner.accept(never)).ingest_generation
    with pytest.raises(OriginUnavailable):
        await runner.run(ID, generation, 5, will_retry=if_retryable)
    asset = await system.asset()
    assert (asset.state, "404" in asset.error) == (AssetState.FAILED, True)
    attempts = await system.catalog.attempts.of(ID)
    assert [(one.job, one.outcome, one.fault and one.fault.retryable) for one in attempts] == [
        (5, "failed", False),
        (5, "failed", True),
    ]
    assert {one.fault.stage for one in attempts if one.fault} == {"fetch"}


async def test_a_request_whose_check_fails_is_not_accepted(
    system: IngestSystem, request_: Request
) -> None:
    def refuse(asset: Asset | None) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await system.pipeline.runner.accept(request_, check=refuse)
    assert await system.catalog.assets.get(ID) is None
