"""Which workers make whole images that are small enough for the lane of tiles.

In that lane they run at its priority, but never in its last worker. The lane of lower priority
makes more of them when it has a free worker. So whole images use processors that are idle, and a
tile waits for none of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator.errors import Overloaded
from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.workers.lanes import Lane


class WholeImagePlaces:
    """The places of whole images in the lane of tiles: one for each worker but the last one.

    A lane of a single worker lends it for a whole image when the workers of `heavy` are busy, which
    may be with a conversion of minutes.
    """

    def __init__(self, workers: int, max_waiting: int, heavy: Lane) -> None:
        """`workers` is the smaller of the numbers of threads and of workers that tiles have. At
        most `max_waiting` whole images wait.
        """
        self._has_spare_worker = workers > 1
        self._max_waiting = max_waiting
        self._waiting = 0
        self._places = asyncio.Semaphore(max(1, workers - 1))
        self._heavy = heavy

    @asynccontextmanager
    async def take(self, recipe: Recipe) -> AsyncIterator[bool]:
        """Make the derivative in the block: True in the lane of tiles, False in `heavy`. A tile is
        always True, at once. A whole image waits if both lanes have no room. Raises Overloaded.
        """
        if not recipe.is_whole_image:
            yield True
            return
        is_free = self._has_spare_worker and not self._places.locked()
        if not is_free and self._heavy.has_free_worker:
            yield False
            return
        if self._waiting >= self._max_waiting:
            raise Overloaded("The server is decoding too many images. Retry later.")
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield True
        finally:
            self._places.release()
