"""An object store that is slow, hangs, is killed or is full: what is on fast disk is answered, the
rest is 503, and it is used again when it is back.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from orchestrator.errors import StorageUnavailable, fault_of
from orchestrator.storage.filesystem_store import FilesystemStore
from orchestrator.storage.store import read
from tests.support import pictures
from tests.support.counting_proxy import CountedRequests, counting_proxy
from tests.support.patience import patience
from tests.support.pausing import paused
from tests.support.serve_process import (
    Reply,
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)
from tests.support.small_disks import mounted
from tests.support.weed import s3_settings, weed

COLD = ("cold-1", "cold-2", "cold-3")
"""Nothing is requested of them before: an info document brings the source to fast disk."""


@dataclass(frozen=True)
class Site:
    server: ServeProcess
    proxy: CountedRequests
    """Between the server and the store."""
    pids: list[int]
    """The processes of the store."""

    def tile(self, name: str, x: int = 0) -> Reply:
        path = f"{x},100,256,256/256,256/0/default.jpg"
        url = f"{self.server.public}/iiif/3/1%2F1%2F{name}/{path}"
        return fetch(url, timeout_s=60 * patience())

    def assert_refused(self, name: str) -> None:
        answer = self.tile(name)
        told = (answer.status, answer.headers.get("x-served-from"), "retry-after" in answer.headers)
        assert told == (503, None, True)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, name in enumerate(("warm", "shown", *COLD)):
        pictures.jpeg(folder / f"{name}.jpg", 2000, 1500, seed)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with ExitStack() as stack:
        endpoint = stack.enter_context(weed(tmp_path / "weed"))
        children = psutil.Process().children(recursive=True)
        proxy = stack.enter_context(counting_proxy(endpoint))
        limit = str(patience())
        env = s3_settings(proxy.address) | {
            "ORCHESTRATOR_STORAGE__CONNECT_TIMEOUT_S": limit,
            "ORCHESTRATOR_STORAGE__READ_TIMEOUT_S": limit,
        }
        data = tmp_path / "data"
        server = stack.enter_context(run_server(folder, workers=2, data=data, env=env))
        server.wait_converted(expected=5)
        yield Site(server, proxy, [each.pid for each in children if each.pid not in before])
        assert_log_clean(server.log())


def test_a_slow_hung_or_killed_store_costs_only_what_is_not_on_fast_disk(site: Site) -> None:
    assert site.tile("warm").status == 200
    numbers = iter(range(1, 1500))

    def assert_warm_is_answered() -> None:
        """Tiles that were never requested before, of a source on fast disk."""
        assert {site.tile("warm", next(numbers)).status for _ in range(4)} == {200}
        assert fetch(f"{site.server.public}/iiif/3/1%2F1%2Fshown/info.json").status == 200

    site.proxy.delay_s = 0.4
    with ThreadPoolExecutor(1) as client:
        waiting = client.submit(site.tile, COLD[0])
        assert_warm_is_answered()
        assert waiting.result().status == 200
    site.proxy.delay_s = 0

    with paused(*site.pids):
        site.assert_refused(COLD[1])
        assert_warm_is_answered()
    wait_until(lambda: site.tile(COLD[1]).status == 200, "it is used again after the pause")

    store = [psutil.Process(pid) for pid in site.pids]
    for process in store:
        process.kill()
    psutil.wait_procs(store, timeout=30)
    site.assert_refused(COLD[2])
    assert_warm_is_answered()
    assert_refused_thumbnail_is_cut_from_the_source(site)
    assert fetch(f"{site.server.public}/health/ready").status == 200


def assert_refused_thumbnail_is_cut_from_the_source(site: Site) -> None:
    """`/thumbs`, which needs the store, is 503; `/iiif` may use the source for the same picture,
    although the failure is remembered for a moment.
    """
    picture = "full/400,/0/default.jpg"
    for _ in range(8):  # both processes
        thumbnail = fetch(f"{site.server.public}/thumbs/1/1/warm/{picture}")
        assert (thumbnail.status, "retry-after" in thumbnail.headers) == (503, True)
    for _ in range(8):
        assert fetch(f"{site.server.public}/iiif/3/1%2F1%2Fwarm/{picture}").status == 200


async def test_a_full_folder_of_objects_is_unavailable_and_keeps_what_it_has(
    tmp_path: Path,
) -> None:
    with mounted(tmp_path / "disk", "size=1m") as disk:
        store = FilesystemStore(disk / "objects")
        await store.put("a", b"before")
        for key in ("a", "b"):
            with pytest.raises(StorageUnavailable) as caught:
                await store.put(key, bytes(2 * 1024**2))
            fault = fault_of(caught.value, "store")
            assert (fault.code, fault.retryable) == ("no_room", True)
        assert await read(store, "a", max_bytes=9) == b"before"
        assert [info.key async for info in store.list("")] == ["a"]
        await store.put("b", b"after")
        assert await read(store, "b", max_bytes=9) == b"after"
        await store.close()
