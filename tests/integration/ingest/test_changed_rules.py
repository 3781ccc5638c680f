"""A policy or an origin strategy that another process has changed is in force at once, also in a
process that remembers that there was none.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.catalog.listener import Listener
from orchestrator.catalog.values import StrategyDraft
from orchestrator.errors import InvalidInput, OriginUnavailable
from orchestrator.ingest.policies import Policies
from orchestrator.ingest.register import Request
from orchestrator.model import AssetId
from orchestrator.origins.strategy_matcher import StrategyMatcher
from orchestrator.processes.rule_notices import RULES_CHANNEL, rule_notices
from tests.support import pictures
from tests.support.caches import ManualClock
from tests.support.ingesting import IngestSystem
from tests.support.jobs import running
from tests.support.origins import OriginServer
from tests.support.patience import patience

pytestmark = pytest.mark.asyncio(loop_scope="session")
ID = AssetId(1, 1, "picture")


async def test_a_job_uses_policies_that_its_process_did_not_know(system: IngestSystem) -> None:
    policies = system.pipeline.policies
    with pytest.raises(InvalidInput):
        await policies.find("thumbnail", 1, "museum")
    with pytest.raises(InvalidInput):
        await policies.find("optimisation", 1, "flat")
    stored = system.catalog.policies
    await stored.put("thumbnail", 1, "museum", {"sizes": [64]})
    await stored.put("optimisation", 1, "flat", {"format": "tiff", "quality": 70})
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    request = Request(ID, str(path), "flat", "museum")
    asset = (await system.ingest(request)).asset
    assert [max(size) for size in asset.thumbnails.open] == [64]
    assert (await policies.find("thumbnail", 1, "museum")).definition == {"sizes": [64]}


async def test_a_job_uses_an_edited_policy_at_once(system: IngestSystem) -> None:
    stored = system.catalog.policies
    await stored.put("thumbnail", 1, "museum", {"sizes": [64]})
    await system.pipeline.policies.find("thumbnail", 1, "museum")
    await stored.put("thumbnail", 1, "museum", {"sizes": [80]})
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    asset = (await system.ingest(Request(ID, str(path), "", "museum"))).asset
    assert [max(size) for size in asset.thumbnails.open] == [80]


async def test_a_job_uses_a_strategy_that_its_process_did_not_know(
    system: IngestSystem, origin: OriginServer
) -> None:
    matcher, fetcher = system.origins.matcher, system.origins.fetcher
    address = origin.url("/new.jpg")
    origin.files["/new.jpg"] = pictures.jpeg(system.pictures / "a.jpg", 90, 60).read_bytes()
    await system.catalog.customers.ensure(1, "main")
    assert await matcher.match(1, address) is None
    await system.catalog.strategies.create(1, StrategyDraft("new", "sftp", optimised=False))
    assert await matcher.match(1, address) is None  # a copy that is some moments old
    with pytest.raises(OriginUnavailable):  # by HTTP it could be read
        await fetcher.fetch(1, address, system.pictures / "fetched")
    matcher.forget(1)
    [created] = await system.catalog.strategies.list(1)
    await system.catalog.strategies.delete(1, created.id)
    assert await matcher.match(1, address) is None
    await system.catalog.strategies.create(1, StrategyDraft("new", "sftp", optimised=False))
    report = await fetcher.examine(1, address)
    assert report.strategy is not None
    assert report.strategy.strategy == "sftp"


async def test_every_process_is_notified_of_changed_rules(
    system: IngestSystem,
) -> None:
    """The clock of this process stands still, so that no copy of the rules becomes too old."""
    clock = ManualClock()
    policies = Policies(system.settings.ingest, system.catalog.policies, now=clock)
    matcher = StrategyMatcher(system.catalog.strategies, now=clock)
    services: Any = SimpleNamespace(
        pipeline=SimpleNamespace(policies=policies), origins=SimpleNamespace(matcher=matcher)
    )
    await system.catalog.customers.ensure(1, "main")
    await system.catalog.policies.put("thumbnail", 1, "museum", {"sizes": [64]})
    await policies.find("thumbnail", 1, "museum")
    assert await matcher.match(1, "one") is None
    listening = asyncio.Event()
    listener = Listener(system.settings.database, {RULES_CHANNEL: rule_notices(services)})
    async with running(listener.run(listening)), asyncio.timeout(60 * patience()):
        await listening.wait()
        await system.catalog.policies.put("thumbnail", 1, "museum", {"sizes": [80]})
        await system.catalog.strategies.create(1, StrategyDraft("one", "ftp"))
        while (await policies.find("thumbnail", 1, "museum")).definition != {"sizes": [80]}:
            await asyncio.sleep(0.01)
        while await matcher.match(1, "one") is None:
            await asyncio.sleep(0.01)


async def test_an_edited_policy_is_another_policy_at_the_next_request(
    system: IngestSystem, origin: OriginServer
) -> None:
    stored = system.catalog.policies
    origin.files["/a.jpg"] = pictures.jpeg(system.pictures / "a.jpg", 300, 200).read_bytes()
    for address in (origin.url("/a.jpg"), str(system.pictures / "a.jpg")):
        request = Request(ID, address, "", "museum")
        await stored.put("thumbnail", 1, "museum", {"sizes": [64]})
        await system.ingest(request)
        assert not (await system.ingest(request)).changed
        await stored.put("thumbnail", 1, "museum", {"sizes": [80]})
        edited = await system.ingest(request)
        assert edited.changed
        assert [max(size) for size in edited.asset.thumbnails.open] == [80]
        assert not (await system.ingest(request)).changed


async def test_a_served_file_is_registered_again_after_its_policy_was_edited(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    first = await system.register(path)
    assert (await system.register(path)).version == first.version
    await system.catalog.policies.put("thumbnail", 1, "default", {"sizes": [64]})
    second = await system.register(path)
    assert second.version > first.version
    assert [max(size) for size in second.thumbnails.open] == [64]
    await system.pipeline.converter.convert(ID)
    assert (await system.register(path)).state == "ready"
