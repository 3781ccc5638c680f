"""All work on pixels that a process of ours may ask for, bounded in number, time and memory.

Trusted and cheap (our pyramids, our thumbnails): threads here. Everything else: spawned worker
processes, in two lanes so that tiles never wait behind whole pictures and conversions, which run in
workers of their own and at lower priority.
"""

from __future__ import annotations

import asyncio
import os
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.errors import Overloaded
from orchestrator.imaging import decode_worker as worker
from orchestrator.imaging import render, vips
from orchestrator.imaging import thumbnail_resize as thumbnail
from orchestrator.imaging.lanes import Group, Lane
from orchestrator.imaging.open_pictures import WHOLE_PIXELS, Opened
from orchestrator.imaging.probe import Bounds
from orchestrator.imaging.recipes import Capabilities, ConversionPolicy, Encoder, Probe, Recipe
from orchestrator.imaging.source_writer import Thumbnails
from orchestrator.model import Dimensions, SourceKind
from orchestrator.settings import Imaging

T = TypeVar("T")

TILE_LANE_PIXELS = 8_000_000
"""What may go to the tile lane: decodes of up to this many pixels, two to three seconds of
JPEG2000.
"""
_ENCODING = {"avif": 20, "webp": 3, "png": 2, "gif": 3}
"""How many pixels could be decoded while one is encoded."""
_ORIGINAL_SPEED = 5
_HEAVY_NICE = 10
_OPEN_SHARE = 16
"""Pictures kept open in a worker may use one part in so many of its memory limit."""
_THREAD_OPEN_BYTES = 64 * 1024**2
_NAMELESS = "/proc/"
"""Where files without a name are, which live in memory: kept open, they would stay there."""


class ImagingPool:
    """Threads and worker processes for one process of ours; made without starting any, closed with
    `close`.
    """

    def __init__(self, settings: Imaging, *, share: int = 1) -> None:
        """`share`: how many processes of this host have a pool like this one, among whom the cores
        are divided.
        """
        cores = os.cpu_count() or 1
        fair = max(1, -(-cores // share))
        processes = settings.processes or fair
        self._settings = settings
        self._bounds = Bounds(settings.max_pixels, settings.max_frames)
        self._threads = ThreadPoolExecutor(settings.threads or fair, "imaging")
        self._starters = ThreadPoolExecutor(2, "imaging-start")
        self._in_threads = 0
        self._local = threading.local()
        kept = settings.memory_limit // _OPEN_SHARE or 256 * 1024**2
        limits = worker.WorkerLimits(settings.memory_limit, kept, 0, cores, self._bounds)
        heavy = replace(limits, nice=_HEAVY_NICE)
        self._heavy_limits = heavy
        self._tiles = Lane("tiles", processes, settings.queue, limits, self._starters)
        self._heavy = Lane("heavy", processes, settings.queue, heavy, self._starters)
        vips.restrict(sandboxed=False)

    async def render(self, recipe: Recipe) -> bytes:
        """The encoded derivative.

        Raises Unprocessable, DecodeTimeout, TooLarge, Overloaded, SourceChanged, FileNotFoundError
        (the source vanished).
        """
        large = _work(recipe) > TILE_LANE_PIXELS
        if recipe.kind is SourceKind.PYRAMID_TIFF and not large:
            return await self._in_thread(self._render_here, recipe)
        lane = self._heavy if large else self._tiles
        return await lane.run(
            worker.render,
            recipe,
            timeout_s=self._settings.decode_timeout_s,
            affinity=zlib.crc32(recipe.path.encode()),
            group=_group(recipe) if self._settings.siblings else None,
        )

    async def resize(
        self, body: bytes, size: Dimensions, quality: str, output: str, encoder: Encoder
    ) -> bytes:
        """A thumbnail of ours at `size`, in the IIIF `quality` and format `output`. Raises
        Unprocessable, Overloaded.
        """
        return await self._in_thread(thumbnail.resized, body, size, quality, output, encoder)

    async def probe(self, path: Path) -> Probe:
        """What the picture at `path` is, from its headers. Raises Unprocessable, TooLarge,
        Overloaded, FileNotFoundError.
        """
        return await self._heavy.run(
            worker.probe, str(path), self._bounds, timeout_s=self._settings.decode_timeout_s
        )

    async def convert(self, path: Path, target: Path, policy: ConversionPolicy) -> Probe:
        """Write the tile-ready form of `path` to `target` and say what it is.

        Raises Unprocessable, DecodeTimeout, TooLarge, Overloaded, FileNotFoundError, OSError (no
        room). After an error `target` may hold a torn file, which the caller removes.
        """
        made, _ = await self._convert(path, target, policy, None)
        return made

    async def make(
        self, path: Path, target: Path, policy: ConversionPolicy, wanted: Thumbnails
    ) -> tuple[Probe, list[Path]]:
        """The same, and thumbnails from the same decode: their paths in the order asked. Raises as
        `convert`.
        """
        return await self._convert(path, target, policy, wanted)

    async def _convert(
        self, path: Path, target: Path, policy: ConversionPolicy, wanted: Thumbnails | None
    ) -> tuple[Probe, list[Path]]:
        # Alone it may use all cores; beside others each is quicker on its own one.
        cores = self._heavy_limits.cores if not self._heavy.busy else 1
        return await self._heavy.run(
            worker.convert,
            str(path),
            str(target),
            policy,
            wanted,
            replace(self._heavy_limits, cores=cores),
            timeout_s=self._settings.convert_timeout_s,
        )

    async def thumbnails(
        self, path: Path, sizes: list[Dimensions], folder: Path, quality: int = 85
    ) -> list[Path]:
        """Write a JPEG of each size into `folder`, from one decode; the paths in the order asked.
        Raises as `convert`.
        """
        return await self._heavy.run(
            worker.thumbnails,
            str(path),
            Thumbnails(tuple(sizes), folder, quality),
            self._heavy_limits,
            timeout_s=self._settings.convert_timeout_s,
        )

    async def capabilities(self) -> Capabilities:
        """Which formats the libvips at hand reads and writes."""
        return await self._in_thread(vips.capabilities)

    def warm(self) -> None:
        """Start the workers for tiles, which otherwise start with the first request for one (half a
        second). To be called on the event loop.
        """
        self._tiles.warm()

    async def close(self) -> None:
        """End all workers; whoever still waits hears Unavailable."""
        self._tiles.close()
        self._heavy.close()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._shut_down)
        await asyncio.sleep(0)  # what the workers' ends had to say is said now

    def _shut_down(self) -> None:
        self._starters.shutdown(wait=True)
        self._threads.shutdown(wait=True, cancel_futures=True)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return self._tiles.pids + self._heavy.pids

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        if self._in_threads >= self._settings.queue:
            raise Overloaded("Too many images are being made; try again soon.")
        self._in_threads += 1
        running = self._threads.submit(function, *arguments)
        loop = asyncio.get_running_loop()
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(self._left_thread))
        return await asyncio.wrap_future(running)

    def _left_thread(self) -> None:
        self._in_threads -= 1

    def _render_here(self, recipe: Recipe) -> bytes:
        opened: Opened | None = getattr(self._local, "opened", None)
        if opened is None:
            opened = self._local.opened = Opened(_THREAD_OPEN_BYTES, sandboxed=False)
        try:
            with worker.translated(recipe.path):
                return render.render(recipe, opened)
        finally:
            if recipe.path.startswith(_NAMELESS):
                opened.forget(recipe.path)


def _work(recipe: Recipe) -> int:
    """What a recipe costs, in decoded pixels or what encoding takes as long as."""
    (width, height), (full_w, full_h) = recipe.size, recipe.dimensions
    if recipe.kind is SourceKind.ORIGINAL:  # decoded whole, but faster than JPEG2000
        decoding = full_w * full_h // _ORIGINAL_SPEED
    else:
        decoding = recipe.decoded_pixels
    return max(decoding, width * height * _ENCODING.get(recipe.format, 1))


def _group(recipe: Recipe) -> Group | None:
    """Tiles of one level of one JPEG2000, which decode faster together."""
    if recipe.kind is not SourceKind.JPEG2000:
        return None
    n, (width, height) = recipe.reduction, recipe.dimensions
    small = (width * height) >> (2 * n) <= WHOLE_PIXELS
    return Group((recipe.path, n), worker.render_together, recipe.region[1::-1], undivided=small)
