"""Which workers make whole images that are small enough for the lane of tiles.

In that lane they run at its priority, but never in its last worker. The lane of lower priority
makes more of them when it has a free worker. So whole images use processors that are idle, and a
tile waits for none of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
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
        self._free = max(1, workers - 1)
        self._max_waiting = max_waiting
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._heavy = heavy

    @asynccontextmanager
    async def take(self, recipe: Recipe) -> AsyncIterator[bool]:
        """Make the derivative in the block: True in the lane of tiles, False in `heavy`. A tile is
        always True, at once. A whole image waits if both lanes have no room. Raises Overloaded.
        """
        if not recipe.is_whole_image:
            yield True
            return
        if not (self._has_spare_worker and self._free) and self._heavy.has_free_worker:
            yield False
            return
        await self._enter()
        try:
            yield True
        finally:
            self._leave()

    async def _enter(self) -> None:
        if self._free:
            self._free -= 1
            return
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded("The server is decoding too many images. Retry later.")
        # Not a semaphore: it belongs to one event loop, a pool does not.
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except BaseException:  # whatever ends the wait; raised again
            if place.done() and not place.cancelled():  # it got its place at the last moment
                self._leave()
            elif place in self._waiting:
                self._waiting.remove(place)
            raise

    def _leave(self) -> None:
        """Give a place to the first that waits, or keep it free."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
