"""Assets in the catalogue are read back as written, and later changes have higher versions."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.catalog.asset_edits import AssetChange
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import CONVERT, JobDraft
from orchestrator.catalog.values import AssetDraft
from orchestrator.errors import AssetNotFound, Conflict, InvalidInput
from orchestrator.model import AssetId, AssetState, Source, SourceKind, ThumbnailSizes

PLANNED = ThumbnailSizes(open=((400, 300), (200, 150)), auth=((1000, 750),))
NAMES = [
    "plain",
    "with space.tif",
    "a/b/c",
    "100%",
    "%2F",
    "caf\u00e9",
    "cafe\u0301",
    "\u65e5\u672c\U0001f5bc",
    "'; DROP TABLE assets; --",
    'quote"d',
    "x" * 210,
]


def original(mark: str = "1-100") -> Source:
    return Source(
        location="file:///pictures/a.jpg",
        kind=SourceKind.ORIGINAL,
        bytes=100,
        fingerprint=mark,
        extension="jpg",
        tile_width=256,
        tile_height=256,
        levels=3,
    )


CONVERTED = Source(
    location="store:1/1/a/1/source.tif",
    kind=SourceKind.PYRAMID_TIFF,
    bytes=5_000_000_000,
    fingerprint='"etag"',
    extension="tif",
    tile_width=512,
    tile_height=512,
    levels=5,
    natively_tiled=True,
)


def a_draft(name: str = "a", mark: str = "1-100", **changes: Any) -> AssetDraft:
    draft = AssetDraft(
        id=AssetId(1, 1, name),
        origin="/pictures/a.jpg",
        width=4000,
        height=3000,
        media_type="image/jpeg",
        source=original(mark),
        optimisation_policy="fastest",
        thumbnail_policy="default",
    )
    return replace(draft, **changes)


async def test_a_registered_asset_is_read_back_with_all_fields(catalog: Catalog) -> None:
    draft = a_draft(
        roles=("staff", "r\u00f4le"),
        max_unauthorised=400,
        strings=("one", "", "three"),
        numbers=(2**40, 0, -1),
        tags=("x", "y z"),
        manifests=("m1", "m/2"),
        rights="https://creativecommons.org/licenses/by/4.0/",
    )
    registered = await catalog.versions.register(draft, thumbnails=PLANNED)
    asset = registered.asset
    assert registered.changed
    assert asset == await catalog.assets.get(draft.id)
    assert asset.state is AssetState.REGISTERED
    assert (asset.dimensions, asset.source) == ((4000, 3000), original())
    assert (asset.roles, asset.max_unauthorised) == (("staff", "r\u00f4le"), 400)
    assert (asset.strings, asset.numbers) == (("one", "", "three"), (2**40, 0, -1))
    assert (asset.tags, asset.rights) == (("x", "y z"), draft.rights)
    assert (asset.thumbnails, asset.thumbnails_version) == (PLANNED, 0)
    assert asset.updated is not None
    assert asset.updated.tzinfo is not None


@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_assets_with_unusual_names_are_different_assets(catalog: Catalog, name: str) -> None:
    for other in NAMES:
        await catalog.versions.register(a_draft(other))
    found = await catalog.assets.get(AssetId(1, 1, name))
    assert found is not None
    assert found.id.name == name
    deleted = await catalog.edits.delete(found.id)
    assert deleted is not None
    assert deleted.asset == found
    assert sum((await catalog.assets.count()).values()) == len(NAMES) - 1


async def test_an_unknown_asset_is_none(catalog: Catalog) -> None:
    assert await catalog.assets.get(AssetId(1, 1, "nothing")) is None
    assert await catalog.edits.delete(AssetId(1, 1, "nothing")) is None


async def test_registering_the_same_original_again_changes_nothing(
    catalog: Catalog,
) -> None:
    first = (await catalog.versions.register(a_draft())).asset
    again = await catalog.versions.register(a_draft())
    assert (again.changed, again.asset) == (False, first)
    await catalog.versions.complete(first.id, first.version, source=CONVERTED, thumbnails=PLANNED)
    restarted = await catalog.versions.register(a_draft())
    assert (restarted.changed, restarted.asset.version) == (False, first.version)
    assert restarted.asset.source == CONVERTED


@pytest.mark.parametrize(
    "changes",
    [
        {"mark": "2-100"},
        {"origin": "/pictures/elsewhere.jpg"},
        {"optimisation_policy": "fast-lossy"},
        {"thumbnail_policy": "large"},
        {"roles": ("staff",)},
        {"max_unauthorised": 0},
        {"tags": ("new",)},
        {"manifests": ("new",)},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_another_original_policy_or_right_gives_a_new_version(
    catalog: Catalog, changes: dict[str, Any]
) -> None:
    first = (await catalog.versions.register(a_draft())).asset
    second = await catalog.versions.register(a_draft(**changes))
    assert second.changed
    assert second.asset.version > first.version


async def test_registering_a_failed_original_again_gives_a_new_version(
    catalog: Catalog,
) -> None:
    first = (await catalog.versions.register(a_draft())).asset
    failed = await catalog.versions.fail(first.id, first.version, "The image is broken.")
    assert failed is not None
    assert (failed.state, failed.error) == (AssetState.FAILED, "The image is broken.")
    second = await catalog.versions.register(a_draft())
    assert (second.changed, second.asset.state) == (True, AssetState.REGISTERED)
    assert second.asset.error == ""


async def test_registering_an_asset_again_keeps_its_rights_and_fields(catalog: Catalog) -> None:
    await catalog.versions.register(
        a_draft(roles=("staff",), max_unauthorised=200, tags=("t",), rights="r")
    )
    after = (await catalog.versions.register(a_draft(mark="2-2"))).asset
    assert (after.roles, after.max_unauthorised) == (("staff",), 200)
    assert (after.tags, after.rights) == (("t",), "r")


async def test_completing_changes_source_thumbnails_and_state_but_not_the_version(
    catalog: Catalog,
) -> None:
    first = (await catalog.versions.register(a_draft(), thumbnails=PLANNED)).asset
    real = ThumbnailSizes(open=((400, 300),))
    done = await catalog.versions.complete(
        first.id, first.version, source=CONVERTED, thumbnails=real
    )
    assert done is not None
    assert (done.version, done.state) == (first.version, AssetState.READY)
    assert (done.source, done.thumbnails) == (CONVERTED, real)
    assert done.thumbnails_version == first.version
    assert done.updated == first.updated


async def test_completing_or_failing_an_outdated_version_changes_nothing(catalog: Catalog) -> None:
    old = (await catalog.versions.register(a_draft())).asset
    new = (await catalog.versions.register(a_draft(mark="2-2"))).asset
    done = await catalog.versions.complete(
        old.id, old.version, source=CONVERTED, thumbnails=PLANNED
    )
    assert done is None
    assert await catalog.versions.fail(old.id, old.version, "too late") is None
    assert await catalog.assets.get(old.id) == new


async def test_publishing_returns_none_when_a_later_version_exists(catalog: Catalog) -> None:
    first = (await catalog.versions.register(a_draft())).asset
    slow = await catalog.versions.next_version()
    quick = await catalog.versions.next_version()
    published = await catalog.versions.publish(
        a_draft(), quick, CONVERTED, PLANNED, generation=first.generation
    )
    assert published is not None
    assert (published.version, published.state) == (quick, AssetState.READY)
    assert published.thumbnails_version == quick
    late = a_draft(mark="9")
    for number, generation in ((slow, first.generation), (quick + 1, first.generation - 1)):
        done = await catalog.versions.publish(
            late, number, CONVERTED, PLANNED, generation=generation
        )
        assert done is None
    assert await catalog.assets.get(published.id) == published


async def test_versions_of_one_asset_only_rise_with_concurrent_changes(
    catalog: Catalog,
) -> None:
    seen: list[int] = []

    async def register(number: int) -> None:
        result = await catalog.versions.register(a_draft(mark=f"{number}"))
        seen.append(result.asset.version)

    async def restrict(number: int) -> None:
        try:
            seen.append(
                (
                    await catalog.edits.change(
                        AssetId(1, 1, "a"), AssetChange(max_unauthorised=number)
                    )
                ).version
            )
        except AssetNotFound:
            return

    work = (register, restrict)
    await asyncio.gather(*(work[number % 2](number) for number in range(40)))
    final = await catalog.assets.get(AssetId(1, 1, "a"))
    assert final is not None
    assert len(set(seen)) == len(seen)
    assert final.version == max(seen)


async def test_concurrent_registrations_of_one_original_give_one_version(
    catalog: Catalog,
) -> None:
    results = await asyncio.gather(*(catalog.versions.register(a_draft()) for _ in range(20)))
    assert sum(result.changed for result in results) == 1
    assert len({result.asset.version for result in results}) == 1


async def test_a_completion_that_races_with_a_registration_never_mixes_them(
    catalog: Catalog,
) -> None:
    for round_ in range(10):
        old = (await catalog.versions.register(a_draft(mark=f"old {round_}"))).asset
        done, new = await asyncio.gather(
            catalog.versions.complete(old.id, old.version, source=CONVERTED, thumbnails=PLANNED),
            catalog.versions.register(a_draft(mark=f"new {round_}")),
        )
        final = await catalog.assets.get(old.id)
        assert final == new.asset
        assert final.source == original(f"new {round_}")
        assert done is None or done.version == old.version


async def test_a_change_of_rights_is_a_new_version_of_the_same_pixels(catalog: Catalog) -> None:
    first = (await catalog.versions.register(a_draft(), thumbnails=PLANNED)).asset
    done = await catalog.versions.complete(
        first.id, first.version, source=CONVERTED, thumbnails=PLANNED
    )
    assert done is not None
    after = await catalog.edits.change(first.id, AssetChange(roles=("staff",)))
    assert after.version > done.version
    assert (after.roles, after.max_unauthorised) == (("staff",), -1)
    assert (after.source, after.thumbnails) == (CONVERTED, PLANNED)
    assert after.thumbnails_version == first.version
    assert after.restricted
    opened = await catalog.edits.change(first.id, AssetChange(roles=()))
    assert not opened.restricted
    with pytest.raises(AssetNotFound):
        await catalog.edits.change(AssetId(1, 1, "nothing"), AssetChange(roles=()))


async def test_descriptive_fields_change_without_a_new_version(catalog: Catalog) -> None:
    first = (await catalog.versions.register(a_draft(tags=("old",)))).asset
    after = await catalog.edits.change(
        first.id, AssetChange(strings=("a", "b", "c"), numbers=(1, 2, 3), rights="r")
    )
    assert (after.strings, after.numbers, after.rights) == (("a", "b", "c"), (1, 2, 3), "r")
    assert (after.tags, after.version) == (("old",), first.version)
    with pytest.raises(AssetNotFound):
        await catalog.edits.change(AssetId(1, 1, "nothing"), AssetChange(rights="r"))


async def test_values_that_no_column_can_hold_are_invalid_input(catalog: Catalog) -> None:
    asset = (await catalog.versions.register(a_draft())).asset
    for fields in ({"numbers": (2**70, 0, 0)}, {"rights": "nul\0"}, {"rights": "\ud800"}):
        with pytest.raises(InvalidInput):
            await catalog.edits.change(asset.id, AssetChange(**fields))


async def test_pages_contain_every_asset_once_ordered_by_the_bytes_of_its_name(
    catalog: Catalog,
) -> None:
    ids = [
        AssetId(customer, space, name)
        for customer in (1, 2)
        for space in (1, 7)
        for name in ("B", "a", "a/b", "z", "\u00e9")
    ]
    for asset_id in reversed(ids):
        await catalog.versions.register(a_draft(id=asset_id))

    async def through(**within: int) -> list[AssetId]:
        found: list[AssetId] = []
        while page := await catalog.assets.page(found[-1] if found else None, 3, **within):
            found += [asset.id for asset in page]
        return found

    assert await through() == ids
    assert await through(customer=2) == [one for one in ids if one.customer == 2]
    assert await through(space=7) == [one for one in ids if one.space == 7]
    assert await through(customer=1, space=7) == ids[5:10]
    assert await through(customer=3) == []


async def waiting(catalog: Catalog, limit: int = 10) -> list[tuple[str, bool]]:
    return [
        (a.id.name, failed) for a, failed in await catalog.ingest_states.find_unconverted(0, limit)
    ]


async def a_conversion_job(catalog: Catalog, name: str) -> int:
    async with catalog.transaction() as connection:
        draft = JobDraft(CONVERT, {}, 0, asset=f"1/1/{name}")
        return (await catalog.jobs.record(connection, [draft])).ids[0]


async def test_registered_assets_without_a_job_are_found_oldest_first(catalog: Catalog) -> None:
    await catalog.versions.register(a_draft("b"))
    second = (await catalog.versions.register(a_draft("a"))).asset
    third = (await catalog.versions.register(a_draft("c"))).asset
    await catalog.versions.complete(second.id, second.version, source=CONVERTED, thumbnails=PLANNED)
    assert await waiting(catalog) == [("b", False), ("c", False)]
    assert await waiting(catalog, 1) == [("b", False)]
    assert await catalog.ingest_states.find_unconverted(60, 10) == []
    await catalog.versions.fail(third.id, third.version, "broken")
    assert await waiting(catalog) == [("b", False)]
    assert await catalog.assets.count() == {"registered": 1, "ready": 1, "failed": 1}
    assert await catalog.versions.reopen(third.id, third.version) is not None
    assert await waiting(catalog) == [("b", False), ("c", False)]


async def test_a_registered_asset_with_a_queued_job_does_not_wait_for_one(catalog: Catalog) -> None:
    await catalog.versions.register(a_draft("a"))
    job = await a_conversion_job(catalog, "a")
    assert await waiting(catalog) == []
    await catalog.cancellations.cancel_job(job)
    assert await waiting(catalog) == [("a", True)]
    await catalog.versions.register(a_draft("a", origin="/other.jpg"))
    assert await waiting(catalog) == [("a", False)]


async def test_an_alias_belongs_to_one_asset_and_is_deleted_with_it(catalog: Catalog) -> None:
    one = (await catalog.versions.register(a_draft("one"))).asset.id
    other = (await catalog.versions.register(a_draft("a/b \u00e9"))).asset.id
    await catalog.aliases.replace(one, ["ark:/12345/x", "\u00e9"])
    assert await catalog.resolve_alias("ark:/12345/x") == one
    assert await catalog.aliases.of(one) == ["ark:/12345/x", "\u00e9"]
    with pytest.raises(Conflict):
        await catalog.aliases.replace(other, ["new", "\u00e9"])
    assert await catalog.resolve_alias("new") is None
    await catalog.aliases.replace(one, ["ark:/12345/x"])
    await catalog.aliases.replace(other, ["\u00e9"])
    assert await catalog.resolve_alias("\u00e9") == other
    await catalog.edits.delete(one)
    assert await catalog.resolve_alias("ark:/12345/x") is None
    with pytest.raises(AssetNotFound):
        await catalog.aliases.replace(one, ["x"])


@pytest.mark.parametrize("alias", ["", "x" * 221, "nul\0", "\ud800", "1/2/name"], ids=ascii)
async def test_an_alias_that_no_client_could_request_is_refused(
    catalog: Catalog, alias: str
) -> None:
    one = (await catalog.versions.register(a_draft("one"))).asset.id
    with pytest.raises(InvalidInput):
        await catalog.aliases.replace(one, [alias])


@pytest.mark.parametrize("alias", ["nothing", "nul\0", "\ud800", "x" * 100_000], ids=range(4))
async def test_any_text_can_be_looked_up_as_an_alias(catalog: Catalog, alias: str) -> None:
    assert await catalog.resolve_alias(alias) is None
    assert await catalog.customer_id(alias) is None
