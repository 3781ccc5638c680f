"""The stages of one ingest: which one is under way, so that a fault says where it happened, and how
long each took.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from orchestrator import metrics

Stage = Literal["request", "fetch", "probe", "convert", "thumbnails", "store", "record"]


class Stages:
    """Of one ingest; not shared."""

    def __init__(self) -> None:
        self.current: Stage = "request"
        """The stage under way, or the last that was."""

    @contextmanager
    def step(self, stage: Stage) -> Iterator[None]:
        """Be in this stage; its seconds are counted when it ends, well or not."""
        self.current = stage
        started = time.perf_counter()
        try:
            yield
        finally:
            metrics.INGEST_STAGE_SECONDS.labels(stage).observe(time.perf_counter() - started)
