"""Stored policies: a customer's override global ones, which override built-in ones."""

import asyncio

import pytest

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.stored_policies import EVERYONE
from orchestrator.errors import InvalidInput, NotFound
from orchestrator.ingest.policies import CACHE_S, Policies
from orchestrator.settings import Ingest

LOSSY = {"format": "jpeg2000", "psnr": 40}
TIFF = {"format": "tiff", "quality": 70}


async def test_a_customers_policy_overrides_a_global_one_which_overrides_a_built_in_one(
    catalog: Catalog,
) -> None:
    policies = Policies(Ingest(), catalog.policies)
    _, is_new = await policies.put("optimisation", EVERYONE, "fastest", LOSSY)
    assert is_new
    await policies.put("optimisation", 2, "fastest", TIFF)
    for customer, psnr, quality in ((1, 40, 90), (2, 0, 70)):
        conversion = (await policies.optimisation(customer, "fastest")).conversion
        assert conversion is not None
        assert (conversion.psnr, conversion.quality) == (psnr, quality)
    await policies.delete("optimisation", 2, "fastest")
    assert (await policies.find("optimisation", 2, "fastest")).customer == EVERYONE
    await policies.delete("optimisation", EVERYONE, "fastest")
    assert (await policies.find("optimisation", 2, "fastest")).customer is None


async def test_one_customers_policy_is_unknown_to_another(catalog: Catalog) -> None:
    policies = Policies(Ingest(), catalog.policies)
    await policies.put("thumbnail", 2, "museum", {"sizes": [800, "!300,200"]})
    assert (await policies.thumbnails(2, "https://x/thumbnailPolicies/museum")).sizes == (
        800,
        "!300,200",
    )
    assert await policies.preview(2, "museum", 1600, 800) == [(800, 400), (300, 150)]
    with pytest.raises(InvalidInput, match="Use one of: default"):
        await policies.thumbnails(1, "museum")


async def test_the_default_may_be_a_stored_policy_and_is_checked_at_start(
    catalog: Catalog,
) -> None:
    settings = Ingest(optimisation_policy="house")
    with pytest.raises(InvalidInput, match="'house'"):
        await Policies(settings, catalog.policies).check_defaults()
    await Policies(Ingest(), catalog.policies).put("optimisation", EVERYONE, "house", LOSSY)
    policies = Policies(settings, catalog.policies)
    await policies.check_defaults()
    assert (await policies.optimisation(7, "")).name == "house"
    assert [e.name for e in await policies.list("optimisation", 7) if e.is_default] == ["house"]


async def test_storing_a_policy_reports_whether_it_is_new(catalog: Catalog) -> None:
    policies = Policies(Ingest(), catalog.policies)
    first, is_new = await policies.put("thumbnail", 1, "museum", {"sizes": [100]})
    assert (first.definition, is_new) == ({"sizes": [100]}, True)
    second, is_new = await policies.put("thumbnail", 1, "museum", {"sizes": [200]})
    assert (second.definition, is_new) == ({"sizes": [200]}, False)
    assert (await policies.thumbnails(1, "museum")).sizes == (200,)


async def test_an_ingest_of_another_process_uses_a_change_at_once_and_a_check_within_seconds(
    catalog: Catalog,
) -> None:
    clock = [0.0]
    here = Policies(Ingest(), catalog.policies)
    there = Policies(Ingest(), catalog.policies, now=lambda: clock[0])

    async def find() -> object:
        return (await there.find("thumbnail", 1, "museum")).definition["sizes"]

    await here.put("thumbnail", 1, "museum", {"sizes": [100]})
    assert await find() == [100]
    await here.put("thumbnail", 1, "museum", {"sizes": [200]})
    assert await find() == [100]  # without the notice that the database sends
    clock[0] = CACHE_S
    assert await find() == [200]
    await here.put("thumbnail", 1, "museum", {"sizes": [300]})
    assert (await there.thumbnails(1, "museum")).sizes == (300,)


async def test_invalid_policies_are_not_stored_and_built_in_ones_not_deleted(
    catalog: Catalog,
) -> None:
    policies = Policies(Ingest(), catalog.policies)
    for kind, name, definition in (
        ("optimisation", "a/b", LOSSY),
        ("optimisation", "a", {"format": "png"}),
        ("thumbnail", "a", {"sizes": []}),
        ("thumbnail", "a", {"sizes": ["max"]}),
    ):
        with pytest.raises(InvalidInput):
            await policies.put(kind, 1, name, definition)  # type: ignore[arg-type]
    for name in ("fastest", "unknown", "a\0", "\ud800"):
        with pytest.raises(NotFound):
            await policies.delete("optimisation", 1, name)


async def test_concurrent_writes_of_a_policy_create_it_once(catalog: Catalog) -> None:
    policies = Policies(Ingest(), catalog.policies)
    results = await asyncio.gather(
        *(policies.put("thumbnail", 1, "museum", {"sizes": [n]}) for n in range(1, 21))
    )
    assert sum(is_new for _, is_new in results) == 1
    assert len([e for e in await policies.list("thumbnail", 1) if e.customer == 1]) == 1
