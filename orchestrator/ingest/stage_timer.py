"""The stages of one ingest: the current one, which a fault names, and the seconds each one took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from orchestrator import metrics

Stage = Literal["request", "fetch", "probe", "convert", "thumbnails", "store", "record"]


class StageTimer:
    """Belongs to one ingest."""

    def __init__(self) -> None:
        self.current: Stage = "request"
        """The stage in progress, or the last one."""

    @contextmanager
    def step(self, stage: Stage) -> Iterator[None]:
        """Enter the stage. Its seconds are recorded at the end of the block, also after a
        failure.
        """
        self.current = stage
        started = time.perf_counter()
        try:
            yield
        finally:
            metrics.INGEST_STAGE_SECONDS.labels(stage).observe(time.perf_counter() - started)
