"""After any sequence of operations and kills by two processes, the counts equal the files on
disk.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestrator.cache.disk.cache import DiskCache, DiskOptions, Product
from orchestrator.cache.disk.file_names import asset_hash
from orchestrator.cache.disk.publisher import Publication
from tests.support.caches import ManualClock, a_product, du

QUOTA = 400_000
R = TypeVar("R")

numbers = st.integers(0, 11)
assets = st.integers(0, 2)
sizes = st.sampled_from([1, 4000, 9000, 30_000, 120_000, 500_000])


class DiskCacheMachine(RuleBasedStateMachine):
    """Two processes' caches over one folder, compared with a model of the stored files by use."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.base = Path(tempfile.mkdtemp(prefix="cache-machine-"))
        self.folder = self.base / "derivatives"
        self.kept: OrderedDict[Product, bytes] = OrderedDict()
        """Least recently used first; evictions remove from the front."""
        self.pinned: set[str] = set()
        """Assets whose files must not be evicted."""

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return self.loop.run_until_complete(coroutine)

    def opened(self) -> DiskCache:
        options = DiskOptions(quota=QUOTA, use_flush_s=3600)
        return self.run(DiskCache.open(self.folder, options, now=self.clock))

    @initialize()
    def start(self) -> None:
        self.caches = [self.opened(), self.opened()]

    def product(self, asset: int, number: int) -> Product:
        return a_product(number, asset=f"1/1/{asset}", version=1 + number % 2)

    @rule(who=st.integers(0, 1), asset=assets, number=numbers, size=sizes)
    def put(self, who: int, asset: int, number: int, size: int) -> None:
        self.flush()
        self.clock.advance(1)
        product, body = self.product(asset, number), os.urandom(8) + bytes(size)
        if self.run(self.caches[who].put(product, body)):
            self.kept.pop(product, None)
            self.kept[product] = body
        else:
            assert size > QUOTA / 4 or self.pinned, "a small body always finds room"
        self.drop_evicted()

    @rule(who=st.integers(0, 1), asset=assets, number=numbers)
    def get(self, who: int, asset: int, number: int) -> None:
        self.clock.advance(1)
        product = self.product(asset, number)
        assert self.run(self.caches[who].get(product)) == self.kept.get(product)
        if product in self.kept:
            self.kept.move_to_end(product)

    @rule(who=st.integers(0, 1), asset=assets)
    def drop_asset(self, who: int, asset: int) -> None:
        self.run(self.caches[who].assets.drop(f"1/1/{asset}"))
        self.forget(lambda product: product.asset == f"1/1/{asset}")

    @rule(who=st.integers(0, 1), asset=assets)
    def drop_older(self, who: int, asset: int) -> None:
        self.run(self.caches[who].assets.drop_older(f"1/1/{asset}", 2))
        self.forget(lambda p: p.asset == f"1/1/{asset}" and p.version < 2)

    @rule(who=st.integers(0, 1), asset=st.integers(0, 1), pinned=st.booleans())
    def pin(self, who: int, asset: int, pinned: bool) -> None:
        """Asset 2 is never pinned, so that there is always a file to evict."""
        text = f"1/1/{asset}"
        assets = self.caches[who].assets
        self.run(assets.pin(text) if pinned else assets.unpin(text))
        (self.pinned.add if pinned else self.pinned.discard)(text)

    @rule(asset=assets, number=numbers)
    def delete_externally(self, asset: int, number: int) -> None:
        product = self.product(asset, number)
        if product in self.kept:
            path = self.run(self.caches[0].path(product))
            assert path is not None
            path.unlink()
            del self.kept[product]
            self.clock.advance(60)  # the lease is over

    @rule(who=st.integers(0, 1))
    def restart(self, who: int) -> None:
        self.run(self.caches[who].close())
        self.caches[who] = self.opened()

    @rule(who=st.integers(0, 1), published=st.booleans(), size=sizes)
    def kill_while_writing(self, who: int, published: bool, size: int) -> None:
        """End the process without cleanup: before the rename, or between commit and rename."""
        cache = self.caches[who]
        thread = cache._thread
        publisher = thread.writer.publisher
        ledger = publisher.ledger

        def die() -> None:
            need = size + 50_000
            if ledger.claim(need):
                temp = ledger.tree.write_temp(bytes(size), "jpg")
                if published:
                    ledger.tree.publish = lambda *_: None  # type: ignore[method-assign]
                    unlinked = temp.with_name(temp.name + "x")
                    os.link(temp, unlinked)
                    where = self.place_of(99)
                    publisher.publish([Publication(where, temp, need)])
                    unlinked.rename(temp)
            index = ledger.index
            index._close_connection()
            index._mutex.close()
            os.close(index.processes._descriptor)
            index.processes._descriptor = -1
            index.close = lambda: None  # type: ignore[method-assign]
            thread.periodic.run = lambda: None  # type: ignore[method-assign]

        self.flush()
        self.run(cache._thread.run(die))
        self.run(cache.close())
        self.drop_evicted()
        self.caches[who] = self.opened()

    def place_of(self, number: int) -> Any:
        from orchestrator.cache.disk.file_names import place

        return place(a_product(number, asset="1/1/killed"))

    def pinned_files(self) -> list[Path]:
        hashes = [asset_hash(asset) for asset in self.pinned]
        return [path for each in hashes for path in (self.folder / each[:2] / each).glob("*")]

    def flush(self) -> None:
        """Record the uses of both, so that the order of eviction is exact."""
        for cache in self.caches:
            self.run(cache.maintenance.run_periodic_work())

    def drop_evicted(self) -> None:
        """Check that the least recently used files were evicted, except leased ones."""
        present = {p: self.run(self.caches[0].get(p)) is not None for p in self.kept}
        self.caches[0]._activity.uses.clear()
        there = [
            is_present
            for product, is_present in present.items()
            if product.asset not in self.pinned
        ]
        assert there == sorted(there), "evicted out of order"
        for product, is_present in present.items():
            assert is_present or product.asset not in self.pinned, "pinned, and evicted"
            if not is_present:
                del self.kept[product]

    def forget(self, which: Any) -> None:
        for product in [product for product in self.kept if which(product)]:
            del self.kept[product]

    @invariant()
    def the_quota_holds_and_counts_are_never_too_low(self) -> None:
        if not hasattr(self, "caches"):
            return
        totals = self.run(self.caches[0].maintenance.totals())
        assert totals.bytes + totals.reserved <= QUOTA
        assert du(self.folder) <= totals.bytes + totals.reserved
        assert totals.pinned <= totals.bytes
        self.run(self.caches[0].maintenance.run_periodic_work())
        self.run(self.caches[1].maintenance.run_periodic_work())

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            for cache in getattr(self, "caches", []):
                self.run(cache.close())
            self.loop.close()
            shutil.rmtree(self.base)

    def settle(self) -> None:
        """After a sweep and a repair there are no leftovers and the counts are exact."""
        if not hasattr(self, "caches"):
            return
        self.run(self.caches[0].maintenance.sweep())
        self.run(self.caches[0].maintenance.verify(repair=True))
        totals = self.run(self.caches[0].maintenance.totals())
        assert totals.bytes == du(self.folder)
        sizes = [path.stat().st_blocks * 512 for path in self.pinned_files()]
        assert totals.pinned == sum(sizes)
        assert not list((self.folder / ".temp").iterdir())
        holders = self.base / "derivatives.index" / "holders"
        assert len(list(holders.iterdir())) == len(self.caches)


def sequences(count: int) -> settings:
    """The settings of a run of this many sequences."""
    return settings(
        max_examples=count,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class TestAccounting(DiskCacheMachine.TestCase):
    settings = sequences(20)


@pytest.mark.soak
class TestAccountingOfManySequences(DiskCacheMachine.TestCase):
    settings = sequences(1000)
