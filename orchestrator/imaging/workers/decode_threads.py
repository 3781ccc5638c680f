"""Threads of this process for cheap work on files that we made. At most `max_pending` calls run or
wait; beyond that a caller gets `Overloaded`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from orchestrator.errors import Overloaded
from orchestrator.imaging import render
from orchestrator.imaging.open_pictures import OpenPictures
from orchestrator.imaging.ready_tiles import ReadyTiles, TileFile, tile_file_of
from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.workers import decode_worker
from orchestrator.work_context import work_context

T = TypeVar("T")

_OPEN_PICTURES_BYTES = 64 * 1024**2
_UNNAMED_FILES = "/proc/"
"""Path of files without a name, which are in memory. While one is open, its memory is not freed."""


class DecodeThreads:
    """A bounded thread pool. Each thread keeps its own open pictures."""

    def __init__(self, threads: int, max_pending: int, max_cost: int) -> None:
        """`max_cost`: see `imaging.render.render`."""
        self._executor = ThreadPoolExecutor(threads, "imaging")
        self._max_pending = max_pending
        self._max_cost = max_cost
        self._pending = 0
        self._local = threading.local()
        self.ready_tiles = ReadyTiles()
        """Stored tiles of the files that were rendered from, for the event loop."""

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """What `function` returns in a thread. Raises what it raises, and Overloaded."""
        if self._pending >= self._max_pending:
            raise Overloaded("The server is processing too many images. Retry later.")
        self._pending += 1
        running = self._executor.submit(function, *arguments)
        loop = asyncio.get_running_loop()
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(self._on_done))
        name = function.__name__.lstrip("_")
        with work_context().tracing.span(f"decode {name}", {"lane": "threads"}):
            return await asyncio.wrap_future(running)

    async def render(self, recipe: Recipe) -> bytes:
        """`imaging.render.render` in a thread. Raises TooExpensive, FileNotFoundError,
        SourceChanged, TooLarge, Unprocessable, Overloaded.
        """
        is_known = recipe.path.startswith(_UNNAMED_FILES) or self.ready_tiles.is_known(recipe.path)
        body, file = await self.run(self._render, recipe, is_known)
        if file is not None:
            self.ready_tiles.add(file)
        return body

    def close(self) -> None:
        """Cancel what waits, and block until the running calls are done."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _on_done(self) -> None:
        self._pending -= 1

    def _render(self, recipe: Recipe, is_known: bool) -> tuple[bytes, TileFile | None]:
        """The encoded derivative and, unless the file `is_known`, what the event loop keeps of
        it.
        """
        pictures: OpenPictures | None = getattr(self._local, "pictures", None)
        if pictures is None:
            pictures = OpenPictures(_OPEN_PICTURES_BYTES, sandboxed=False)
            self._local.pictures = pictures
        try:
            with decode_worker.translate_errors(recipe.path):
                body = render.render(recipe, pictures, self._max_cost)
                return body, None if is_known else tile_file_of(pictures.open(recipe.path))
        finally:
            if recipe.path.startswith(_UNNAMED_FILES):
                pictures.forget(recipe.path)
