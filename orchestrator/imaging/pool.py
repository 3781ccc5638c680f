"""All work on pixels that one of our processes requests, bounded in number, time and memory.

Cheap work on files that we made (our pyramids, our thumbnails) runs in threads of this process.
Everything else runs in spawned worker processes, in two lanes: one for tiles, and one of lower
priority for whole images and conversions. So tiles never wait for a conversion, and whole images
never take the last worker or thread that tiles have, if there are two.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from orchestrator.imaging import thumbnail_resize, vips
from orchestrator.imaging.attention import attention_recipe
from orchestrator.imaging.idle_workers import IdleWorkers
from orchestrator.imaging.jpeg2000.jp2_layout import SMALL_LEVEL_PIXELS
from orchestrator.imaging.probe import Bounds
from orchestrator.imaging.pyramid_calls import PyramidCalls, run_writing, with_idle_cores
from orchestrator.imaging.recipes import ConversionPolicy, Encoder, Probe, Recipe
from orchestrator.imaging.render_cost import TooExpensive, estimated_cost
from orchestrator.imaging.slow_originals import decoded_bytes
from orchestrator.imaging.source_writer import ThumbnailRequest
from orchestrator.imaging.workers import decode_worker
from orchestrator.imaging.workers.decode_queue import JobGroup
from orchestrator.imaging.workers.decode_threads import DecodeThreads
from orchestrator.imaging.workers.decode_worker import WorkerLimits
from orchestrator.imaging.workers.lanes import Lane
from orchestrator.imaging.workers.sandbox import FileAccess
from orchestrator.imaging.workers.whole_images import WholeImagePlaces
from orchestrator.model import Dimensions, SourceKind
from orchestrator.settings import Imaging

T = TypeVar("T")

TILE_LANE_PIXELS = 8_000_000
"""Decodes of up to this many pixels go to the tile lane. That is two to three seconds of JPEG2000
decoding.
"""
_HEAVY_NICE = 10
_OPEN_PICTURES_SHARE = 16
"""The open pictures of a worker may use this fraction (1/n) of its memory limit."""
_LARGEST_PICTURE_SHARE = 4
"""One decoded picture may use this fraction of it, and then no other one is kept."""
_OPEN_PICTURES_BYTES = 256 * 1024**2
"""What they may use if workers have no memory limit."""


class ImagingPool:
    """Threads and worker processes for one of our processes. Making a pool starts none of them;
    `close` ends them.
    """

    def __init__(
        self, settings: Imaging, *, share: int = 1, files: FileAccess | None = None
    ) -> None:
        """`share` is the number of processes of this host that have such a pool. They divide the
        processor cores among them. `files`: the files that decode workers may open; None means any.
        """
        cores = os.cpu_count() or 1
        default = max(1, -(-cores // share))
        processes = settings.processes or default
        self.processes = processes
        """How many decode worker processes each lane has."""
        self._settings = settings
        self._bounds = Bounds(settings.max_pixels, settings.max_frames)
        threads = settings.threads or default
        self._threads = DecodeThreads(threads, settings.queue, TILE_LANE_PIXELS)
        self._starters = ThreadPoolExecutor(2, "imaging-start")
        open_pictures = settings.memory_limit // _OPEN_PICTURES_SHARE or _OPEN_PICTURES_BYTES
        limits = WorkerLimits(
            memory=settings.memory_limit,
            open_pictures=open_pictures,
            largest_picture=settings.memory_limit // _LARGEST_PICTURE_SHARE or open_pictures,
            nice=0,
            cores=cores,
            bounds=self._bounds,
            grok_s=settings.decode_timeout_s / 2 if settings.grok == "auto" else 0,
            files=files,
        )
        self.kept_bytes = limits.largest_picture
        """A decoded original of up to so many bytes is kept by a worker for its next tiles."""
        self._heavy_limits = replace(limits, nice=_HEAVY_NICE)
        tile_limits = replace(limits, max_cost=TILE_LANE_PIXELS)
        self._tiles = Lane("tiles", processes, settings.queue, tile_limits, self._starters)
        self._heavy = Lane("heavy", processes, settings.queue, self._heavy_limits, self._starters)
        self._places = WholeImagePlaces(min(processes, threads), settings.queue, self._heavy)
        self.pyramids = PyramidCalls(self._heavy, self._heavy_limits, settings)
        """Pyramid TIFFs, with the options and pages that `convert` does not have."""
        self.idle_workers = IdleWorkers(self._heavy_limits, settings, self._starters)
        """Workers beside both lanes, for work that no request waits for."""
        vips.restrict(sandboxed=False)

    async def render(self, recipe: Recipe) -> bytes:
        """The encoded derivative.

        Raises Unprocessable, DecodeTimeout, TooLarge, Overloaded, SourceChanged, FileNotFoundError
        (the source does not exist).
        """
        if estimated_cost(recipe) <= TILE_LANE_PIXELS:
            with suppress(TooExpensive):  # with the levels that the file really has
                async with self._places.take(recipe) as beside_tiles:
                    if beside_tiles and recipe.kind is SourceKind.PYRAMID_TIFF:
                        return await self._threads.render(recipe)
                    if beside_tiles:
                        return await self._run_in(self._tiles, decode_worker.render, recipe)
        return await self._run_in(self._heavy, decode_worker.render, recipe)

    def ready_tile(
        self, recipe: Recipe, is_current: Callable[[os.stat_result], bool] | None = None
    ) -> bytes | None:
        """The result of `recipe` if a pyramid TIFF that was rendered from before has it as a tile,
        and the tile is in the page cache; else None. Does not wait. Must be called on the event
        loop. `is_current`: see `ReadyTiles.read`.
        """
        return self._threads.ready_tiles.read(recipe, is_current)

    async def animate(self, recipe: Recipe) -> bytes:
        """The region of every frame of a GIF or WebP, at the size, as an animation; the format of
        the recipe is gif or webp. Raises as `render`, and TooLarge for too many frames or pixels.
        """
        timeout_s = self._settings.decode_timeout_s
        return await self._heavy.run(
            decode_worker.animate, recipe, self._bounds, timeout_s=timeout_s
        )

    async def attention(self, path: Path, probe: Probe) -> tuple[int, int]:
        """(x, y) in upright pixels of what a viewer of the picture looks at first. Raises as
        `render`.
        """
        recipe = attention_recipe(str(path), probe)
        if estimated_cost(recipe) <= TILE_LANE_PIXELS:
            with suppress(TooExpensive):
                return await self._run_in(self._tiles, decode_worker.find_attention, recipe)
        return await self._run_in(self._heavy, decode_worker.find_attention, recipe)

    async def _run_in(self, lane: Lane, call: Callable[[Recipe], T], recipe: Recipe) -> T:
        """Run `call`, preferably in the worker that has the file open."""
        is_grouped, siblings = call is decode_worker.render, self._settings.siblings
        return await lane.run(
            call,
            recipe,
            timeout_s=self._settings.decode_timeout_s,
            affinity=zlib.crc32(recipe.path.encode()),
            group=_group_of(recipe, self._heavy_limits, siblings=siblings) if is_grouped else None,
            picture=_picture_of(recipe),
        )

    async def resize(
        self, body: bytes, size: Dimensions, quality: str, output: str, encoder: Encoder
    ) -> bytes:
        """A thumbnail that we made, at `size`, in the IIIF `quality` and format `output`. Raises
        Unprocessable, Overloaded.
        """
        return await self._threads.run(
            thumbnail_resize.resize_thumbnail, body, size, quality, output, encoder
        )

    async def probe(self, path: Path) -> Probe:
        """What the headers of the picture at `path` say, after a small part of it was decoded.
        Raises Unprocessable, TooLarge, Overloaded, FileNotFoundError.
        """
        return await self._heavy.run(
            decode_worker.probe, str(path), self._bounds, timeout_s=self._settings.decode_timeout_s
        )

    async def sanitise_svg(self, path: Path) -> bytes:
        """The SVG file at `path`, compressed or not, without what runs or loads something, in
        UTF-8. Raises Unprocessable, DecodeTimeout, TooLarge, Overloaded, FileNotFoundError.
        """
        timeout_s = self._settings.decode_timeout_s
        return await self._heavy.run(decode_worker.sanitise_svg, str(path), timeout_s=timeout_s)

    async def convert(self, path: Path, target: Path, policy: ConversionPolicy) -> Probe:
        """Write the tile-ready form of `path` to `target`; the probe of `target`.

        Raises Unprocessable, DecodeTimeout, TooLarge, Overloaded, FileNotFoundError, NoRoom (the
        disk is full), OSError. After an error the caller removes `target`: it may be incomplete.
        """
        probe, _ = await self.convert_with_thumbnails(path, target, policy, None)
        return probe

    async def convert_with_thumbnails(
        self,
        path: Path,
        target: Path,
        policy: ConversionPolicy,
        thumbnails: ThumbnailRequest | None,
    ) -> tuple[Probe, list[Path]]:
        """As `convert`, and write thumbnails from the same decode: also their paths, in the order
        requested. Raises as `convert`.
        """
        return await run_writing(
            self._heavy,
            self._settings.convert_timeout_s,
            target.parent,
            decode_worker.convert,
            str(path),
            str(target),
            policy,
            thumbnails,
            with_idle_cores(self._heavy, self._heavy_limits),
        )

    async def thumbnails(
        self, path: Path, sizes: list[Dimensions], folder: Path, quality: int = 85
    ) -> list[Path]:
        """Write a JPEG of each size into `folder`, from one decode; the paths in the order
        requested. Raises as `convert`.
        """
        return await run_writing(
            self._heavy,
            self._settings.convert_timeout_s,
            folder,
            decode_worker.write_thumbnails,
            str(path),
            ThumbnailRequest(tuple(sizes), folder, quality),
            self._heavy_limits,
        )

    def start_tile_workers(self) -> None:
        """Start the workers for tiles. Otherwise the first request starts one, which takes half a
        second. Must be called on the event loop.
        """
        self._tiles.start_all()

    def check(self) -> str:
        """Return what is wrong in a sentence if the last worker for tiles could not be started, and
        try again; else "". Must be called on the event loop.
        """
        if self._tiles.can_start:
            return ""
        self._tiles.start_all()
        return "No decode worker can be started."

    async def close(self) -> None:
        """End all workers. Callers that still wait get Unavailable."""
        self._tiles.close()
        self._heavy.close()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._starters.shutdown)
        await loop.run_in_executor(None, self._threads.close)
        await asyncio.sleep(0)  # runs the callbacks of the workers that ended

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return self._tiles.pids + self._heavy.pids + self.idle_workers.pids


def _picture_of(recipe: Recipe) -> str | None:
    """The file, if it is decoded as a whole for a part of it that costs little itself."""
    is_part = recipe.kind is SourceKind.ORIGINAL and not recipe.is_whole_image
    return recipe.path if is_part else None


def _group_of(recipe: Recipe, limits: WorkerLimits, *, siblings: bool) -> JobGroup | None:
    """What one worker should do in one call: parts of a large original, which it decodes once for
    all of them, or (`siblings`) neighbouring tiles of a level of a JPEG2000 file, which decode
    faster together.
    """
    order = recipe.region[1::-1]
    is_original = recipe.kind is SourceKind.ORIGINAL
    if is_original and decoded_bytes(recipe.dimensions) > limits.open_pictures:
        key = (recipe.path, SourceKind.ORIGINAL)
        return JobGroup(key, decode_worker.render_together, order, undivided=True)
    if not siblings or recipe.kind is not SourceKind.JPEG2000 or recipe.is_whole_image:
        return None
    n, (width, height) = recipe.reduction, recipe.dimensions
    is_small = (width * height) >> (2 * n) <= SMALL_LEVEL_PIXELS
    return JobGroup((recipe.path, n), decode_worker.render_together, order, undivided=is_small)
