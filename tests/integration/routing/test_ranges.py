"""Sources that are not copied and are read in ranges: correct pixels from a small part of the
bytes, within a budget that is smaller than the source. Ranges that did not arrive completely are
not used.
"""

from __future__ import annotations

import asyncio
import io
import random
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

from orchestrator import metrics
from orchestrator.errors import Overloaded, SourceChanged, StorageUnavailable
from orchestrator.iiif.geometry import Limits, ResolvedImage, resolve
from orchestrator.iiif.syntax import parse_image_request
from orchestrator.imaging import FAST_LOSSY, FASTEST, ConversionPolicy
from orchestrator.imaging.recipes import Encoder
from orchestrator.model import Asset, Source, SourceKind
from orchestrator.routing.image_servers.builtin import BuiltinImageServer
from orchestrator.routing.memory_sources import WORTH_PARTS, MemorySourceCache
from orchestrator.routing.unorchestrated import UnorchestratedRenderer
from orchestrator.settings import Storage
from orchestrator.storage.filesystem_store import FilesystemStore
from orchestrator.storage.store import ObjectStore
from orchestrator.storage.store_factory import open_store
from tests.golden.comparison import assert_alike, reference
from tests.support.builders import an_asset
from tests.support.counting_proxy import counting_proxy
from tests.support.scenes import write_png
from tests.support.server_fixtures import S3Server

SIZE = (2735, 2251)
KEY = "1/1/sample/1/source.bin"
TILE = "1024,1024,1024,1024/256,256/0/default.png"
VIEWS = [
    "0,0,256,256/256,256/0/default.png",
    TILE,
    "full/250,/0/default.png",
    "2560,2048,175,203/175,203/0/default.png",
    "2048,2048,687,203/172,51/0/default.png",
    "1477,333,1201,97/max/0/default.png",
    "511,0,3,2251/max/0/default.png",
    "0,2000,2735,251/684,/90/gray.png",
]
Maker = Callable[[Path, Path], None]


def written_by_libvips(**options: Any) -> Maker:
    """A maker of a pyramid TIFF."""

    def make(original: Path, target: Path) -> None:
        image = pyvips.Image.pngload(str(original))
        values = {"tile_width": 256, "tile_height": 256, **options}
        image.tiffsave(str(target), tile=True, pyramid=True, **values)

    return make


TIFFS: dict[str, Maker | ConversionPolicy] = {
    "ours": FASTEST,
    "bigtiff": written_by_libvips(compression="jpeg", Q=90, bigtiff=True),
    "subifd": written_by_libvips(compression="deflate", subifd=True),
    "webp": replace(FASTEST, compression="webp", always_big=True),
    "zstd": replace(FASTEST, compression="zstd", subifd=True, always_big=True),
    "uncompressed": written_by_libvips(tile_width=128, tile_height=192),
}
"""A missing uncompressed tile decodes as black, without an error."""
JP2S: dict[str, Maker | ConversionPolicy] = {
    "jp2": FAST_LOSSY,
    "one piece": replace(FAST_LOSSY, tile=0),
}
EVERY = {**TIFFS, **JP2S}


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    return write_png(tmp_path_factory.mktemp("scene") / "scene.png", *SIZE)


@pytest.fixture
def renderer(imaging) -> BuiltinImageServer:
    return BuiltinImageServer(imaging, Encoder())


@pytest.fixture(scope="module")
def sources(scene, imaging, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    paths = {}
    for name, maker in EVERY.items():
        paths[name] = folder / (f"{name}.jp2" if name in JP2S else f"{name}.tif")
        if isinstance(maker, ConversionPolicy):
            asyncio.run(imaging.convert(scene, paths[name], maker))
        else:
            maker(scene, paths[name])
        assert paths[name].stat().st_size > WORTH_PARTS
    return paths


@pytest.fixture(params=["filesystem", "s3"])
async def store(request, tmp_path) -> AsyncIterator[ObjectStore]:
    settings = Storage(root=tmp_path / "objects")
    if request.param == "s3":
        settings = request.getfixturevalue("s3_server").storage()
    async with open_store(settings, tmp_path) as opened:
        yield opened


@pytest.fixture
async def local(tmp_path) -> AsyncIterator[FilesystemStore]:
    store = FilesystemStore(tmp_path / "objects")
    yield store
    await store.close()


async def stored(store: ObjectStore, path: Path) -> Asset:
    info = await store.put(KEY, path)
    kind = SourceKind.JPEG2000 if path.suffix == ".jp2" else SourceKind.PYRAMID_TIFF
    source = Source(
        location=f"store:{KEY}",
        kind=kind,
        bytes=path.stat().st_size,
        fingerprint=info.etag,
        extension=path.suffix[1:],
        tile_width=256,
        tile_height=256,
        levels=4,
    )
    return an_asset(width=SIZE[0], height=SIZE[1], source=source)


def resolved(path: str = TILE) -> ResolvedImage:
    return resolve(parse_image_request(tuple(path.split("/")), 3), SIZE, Limits())


def answers_counted(how: str) -> float:
    return metrics.SOURCES_NOT_COPIED.labels(why="no_room", how=how)._value.get()


def bytes_fetched() -> float:
    return metrics.SOURCE_RANGE_BYTES._value.get()


def pixels(body: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(body)))


@pytest.mark.parametrize("name", EVERY)
async def test_every_view_has_the_pixels_of_the_whole_file(sources, local, renderer, name):
    asset = await stored(local, sources[name])
    for view in VIEWS:
        whole = await renderer.render(asset, sources[name], resolved(view))
        memory = MemorySourceCache(local, 10**9)
        before = answers_counted("range")
        got = await UnorchestratedRenderer(memory, renderer, None).render(
            asset, resolved(view), "no_room"
        )
        memory.close()
        assert (pixels(got) == pixels(whole)).all(), view
        assert answers_counted("range") - before == 1, view


@pytest.mark.parametrize("name", ["ours", "bigtiff", "jp2"])
async def test_a_tile_of_a_small_level_is_correct_and_fetches_a_small_part(
    sources, store, renderer, scene, name, record_property
):
    asset = await stored(store, sources[name])
    memory = MemorySourceCache(store, asset.source.bytes // 3)
    unorchestrated = UnorchestratedRenderer(memory, renderer, None)
    before = bytes_fetched()
    body = await unorchestrated.render(asset, resolved(), "no_room")
    truth = np.asarray(Image.open(scene).convert("RGB"))
    wanted = reference(truth, (1024, 1024, 1024, 1024), (256, 256))
    assert_alike(pixels(body), wanted, mean=6, p99=40)
    cost = bytes_fetched() - before
    record_property("bytes", f"{cost:.0f} of {asset.source.bytes}")
    print(name, type(store).__name__, f"{cost:.0f} of {asset.source.bytes}")
    assert 0 < cost < asset.source.bytes * 0.15
    assert cost <= memory.bytes + 4096
    assert memory.bytes <= cost + 40 * 4096, "the budget counts filled pages, not the length"
    assert await unorchestrated.render(asset, resolved(), "no_room") == body
    assert bytes_fetched() - before == cost, "the second answer fetches nothing"
    memory.close()


@pytest.mark.parametrize(
    ("name", "edge", "most"), [("jp2", 512, 160_000), ("one piece", 256, 490_000)]
)
async def test_a_tile_at_full_scale_fetches_only_its_tile_parts_or_packets(
    sources, local, renderer, name, edge, most
):
    asset = await stored(local, sources[name])
    memory = MemorySourceCache(local, 10**9)
    before = bytes_fetched()
    view = resolved(f"1536,1024,{edge},{edge}/{edge},{edge}/0/default.png")
    body = await UnorchestratedRenderer(memory, renderer, None).render_cold(asset, view)
    memory.close()
    assert pixels(body).shape == (edge, edge, 3)
    assert 0 < bytes_fetched() - before < most < asset.source.bytes / 4


async def test_the_metric_counts_the_bytes_that_the_store_sends(
    sources, s3_server: S3Server, renderer
):
    with counting_proxy(s3_server.endpoint) as counted:
        settings = S3Server(counted.address).storage()
        async with open_store(settings, Path()) as store:
            asset = await stored(store, sources["ours"])
            counted.clear()
            before = bytes_fetched()
            memory = MemorySourceCache(store, asset.source.bytes // 2)
            unorchestrated = UnorchestratedRenderer(memory, renderer, None)
            await asyncio.gather(
                *(unorchestrated.render(asset, resolved(), "no_room") for _ in range(20))
            )
            cost = bytes_fetched() - before
            assert cost <= counted.received <= cost + 1000 * len(counted.requests("GET"))
            assert len(counted.requests("GET")) <= 12
            memory.close()


@pytest.mark.parametrize("name", ["ours", "jp2"])
async def test_a_budget_smaller_than_the_source_is_enough(sources, local, renderer, name):
    asset = await stored(local, sources[name])
    budget = asset.source.bytes // 4
    memory = MemorySourceCache(local, budget)
    unorchestrated = UnorchestratedRenderer(memory, renderer, None)
    assert await unorchestrated.render(asset, resolved(), "no_room")
    before = answers_counted("refused")
    with pytest.raises(Overloaded):
        await unorchestrated.render(asset, resolved("full/max/0/default.png"), "no_room")
    assert answers_counted("refused") - before == 1
    assert await unorchestrated.render(asset, resolved(), "no_room")
    assert 0 < memory.bytes <= budget
    memory.close()


@pytest.mark.parametrize("name", ["jp2", "one piece", "ours"])
async def test_a_partial_file_grows_while_other_callers_read_it(sources, local, renderer, name):
    asset = await stored(local, sources[name])
    memory = MemorySourceCache(local, 10**9)
    unorchestrated = UnorchestratedRenderer(memory, renderer, None)
    levels = [f"0,0,1024,1024/{1024 >> n},/0/default.png" for n in (4, 3, 2, 1, 0)]
    whole = {view: await renderer.render(asset, sources[name], resolved(view)) for view in levels}
    before, answered = bytes_fetched(), answers_counted("range")
    views = [*levels * 3]
    random.Random(5).shuffle(views)

    async def is_correct(view: str) -> bool:
        body = await unorchestrated.render(asset, resolved(view), "no_room")
        return bool((pixels(body) == pixels(whole[view])).all())

    for view in levels:  # from the shortest prefix to the longest
        assert await is_correct(view)
    assert bytes_fetched() - before <= asset.source.bytes, "nothing is fetched twice"
    assert all(await asyncio.gather(*map(is_correct, views)))
    memory.close()
    fresh = MemorySourceCache(local, 10**9)
    unorchestrated = UnorchestratedRenderer(fresh, renderer, None)
    assert all(await asyncio.gather(*map(is_correct, views)))
    fresh.close()
    assert answers_counted("range") - answered == 5 + 15 + 15


@pytest.mark.parametrize("name", ["ours", "jp2"])
@pytest.mark.parametrize("longer", [0, 1000, -1_000_000])
async def test_a_replaced_object_is_not_used(sources, store, renderer, name, longer):
    asset = await stored(store, sources[name])
    memory = MemorySourceCache(store, 10**9)
    unorchestrated = UnorchestratedRenderer(memory, renderer, None)
    await unorchestrated.render(asset, resolved(), "no_room")
    allocated = memory.bytes
    body = sources[name].read_bytes()
    await store.put(KEY, (body[:-5000] + bytes(5000 + max(longer, 0)))[: len(body) + longer])
    with pytest.raises(SourceChanged):
        await unorchestrated.render(
            asset, resolved("1700,0,1000,1000/max/0/default.png"), "no_room"
        )
    assert allocated <= memory.bytes <= asset.source.bytes
    memory.close()
    with pytest.raises(SourceChanged):
        await unorchestrated.render(asset, resolved(), "no_room")
    assert memory.bytes == 0


class FailingStore(FilesystemStore):
    """A store that ends the next `fails` large reads early, or makes them wait for `gate`."""

    fails = 0
    gate: asyncio.Event | None = None

    @asynccontextmanager
    async def open(self, key, **options):
        async with super().open(key, **options) as stream:
            if self.gate is not None and stream.length > 40_000:
                yield self._wait_at_gate(stream)
            elif self.fails and stream.length > 40_000:
                self.fails -= 1
                yield BrokenStream(stream)
            else:
                yield stream

    def _wait_at_gate(self, stream):
        return WaitingStream(stream, self.gate)


class BrokenStream:
    def __init__(self, stream):
        self.info = stream.info

    async def __aiter__(self):
        yield b"\xaa" * 9000
        raise StorageUnavailable("The object store sent too few bytes.")


class WaitingStream:
    def __init__(self, stream, gate):
        self.info = stream.info
        self._stream, self._gate = stream, gate

    async def __aiter__(self):
        yield (await self._stream.read())[:9000]
        await self._gate.wait()
        raise AssertionError("the reader was cancelled")


@pytest.mark.parametrize("name", ["uncompressed", "jp2"])
async def test_ranges_that_did_not_arrive_completely_are_not_used(
    sources, tmp_path, renderer, name
):
    store = FailingStore(tmp_path / "objects")
    asset = await stored(store, sources[name])
    view = "0,0,2048,2048/512,512/0/default.png"
    whole = await renderer.render(asset, sources[name], resolved(view))
    memory = MemorySourceCache(store, 10**9)
    unorchestrated = UnorchestratedRenderer(memory, renderer, None)
    low = "full/250,/0/default.png"
    small = await unorchestrated.render(asset, resolved(low), "no_room")
    for _ in range(2):
        store.fails = 1
        with pytest.raises(StorageUnavailable):
            await unorchestrated.render(asset, resolved(view), "no_room")
    store.gate = asyncio.Event()
    cancelled = asyncio.create_task(unorchestrated.render(asset, resolved(view), "no_room"))
    await asyncio.sleep(0.05)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    store.gate = None
    before = answers_counted("range")
    assert await unorchestrated.render(asset, resolved(low), "no_room") == small, "unchanged"
    assert answers_counted("range") - before == 1
    got = await unorchestrated.render(asset, resolved(view), "no_room")
    assert (pixels(got) == pixels(whole)).all()
    memory.close()
    await store.close()


def tag_at(body: bytes, tag: int, directory: int = 0) -> int:
    """The offset of the entry of a tag in a classic little-endian TIFF."""
    (at,) = struct.unpack_from("<I", body, 4)
    for _ in range(directory):
        (count,) = struct.unpack_from("<H", body, at)
        (at,) = struct.unpack_from("<I", body, at + 2 + 12 * count)
    (count,) = struct.unpack_from("<H", body, at)
    entries = range(at + 2, at + 2 + 12 * count, 12)
    return next(entry for entry in entries if struct.unpack_from("<H", body, entry)[0] == tag)


def with_long(body: bytes, at: int, value: int) -> bytes:
    return body[:at] + struct.pack("<I", value) + body[at + 4 :]


def a_tile_outside(body: bytes) -> bytes:
    (array,) = struct.unpack_from("<I", body, tag_at(body, 324, 2) + 8)
    return with_long(body, array, 2**32 - 9)


def an_array_outside(body: bytes) -> bytes:
    return with_long(body, tag_at(body, 324, 2) + 8, len(body) - 3)


def a_list_too_long(body: bytes) -> bytes:
    return with_long(body, tag_at(body, 325, 2) + 4, 2**31)


def a_list_too_short(body: bytes) -> bytes:
    return with_long(body, tag_at(body, 324, 2) + 4, 3)


def directories_in_a_loop(body: bytes) -> bytes:
    (first,) = struct.unpack_from("<I", body, 4)
    (count,) = struct.unpack_from("<H", body, first)
    return with_long(body, first + 2 + 12 * count, first)


def no_directory(body: bytes) -> bytes:
    return with_long(body, 4, len(body) - 1)


def tiles_of_others(body: bytes) -> bytes:
    """The tile offsets of a level are those of the first level, whose tiles are larger."""
    return with_long(
        body, tag_at(body, 324, 2) + 8, struct.unpack_from("<I", body, tag_at(body, 324) + 8)[0]
    )


HOSTILE = [
    a_tile_outside,
    an_array_outside,
    a_list_too_long,
    a_list_too_short,
    directories_in_a_loop,
    no_directory,
    tiles_of_others,
]


async def outcome(work: Any) -> Any:
    try:
        return pixels(await work).tobytes()
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("corrupt", HOSTILE, ids=lambda corrupt: corrupt.__name__)
async def test_an_invalid_directory_gives_the_same_result_as_the_whole_file(
    sources, tmp_path, local, renderer, corrupt
):
    path = tmp_path / "corrupt.tif"
    path.write_bytes(corrupt(sources["ours"].read_bytes()))
    asset = await stored(local, path)
    memory = MemorySourceCache(local, 10**9)
    got = await outcome(
        UnorchestratedRenderer(memory, renderer, None).render(asset, resolved(), "no_room")
    )
    assert got == await outcome(renderer.render(asset, path, resolved()))
    memory.close()


async def test_a_wrong_list_of_tile_parts_is_detected(sources, tmp_path, local, renderer):
    body = sources["jp2"].read_bytes()
    at = body.index(b"\xff\x55") + 6  # entries are (tile, length)
    (length,) = struct.unpack_from(">I", body, at + 2)
    (following,) = struct.unpack_from(">I", body, at + 8)
    wrong = bytearray(body)
    struct.pack_into(">I", wrong, at + 2, length + 7)
    struct.pack_into(">I", wrong, at + 8, following - 7)
    path = tmp_path / "wrong.jp2"
    path.write_bytes(wrong)
    asset = await stored(local, path)
    memory = MemorySourceCache(local, 10**9)
    before = answers_counted("memory")
    for _ in range(2):
        got = await UnorchestratedRenderer(memory, renderer, None).render(
            asset, resolved(), "no_room"
        )
        assert (pixels(got) == pixels(await renderer.render(asset, path, resolved()))).all()
    assert answers_counted("memory") - before == 2
    memory.close()
