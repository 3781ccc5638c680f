"""Cleaning up after a task, in a thread.

A task can be cancelled again while it cleans up. Work that waits for a thread of `to_thread` is
then never run, and a folder or a lock stays as long as the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec

P = ParamSpec("P")


async def clean_up(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Run `function` in a thread and wait for its end. It is run even if the caller is cancelled
    before it has begun.
    """
    loop = asyncio.get_running_loop()
    await asyncio.shield(loop.run_in_executor(None, partial(function, *args, **kwargs)))
