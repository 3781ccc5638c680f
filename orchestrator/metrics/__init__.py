"""Every metric, declared once with its help text in the module of its concern. Callers use
`metrics.NAME`. `docs/metrics.md` is written from INSTRUMENTS, and a test compares the two.

All metrics are in a registry of their own (`instruments.py`), never in that of the library. If
PROMETHEUS_MULTIPROC_DIR is in the environment when this package is first imported (the supervisor
sets it for its children), values are in files of each process (`metric_files.py`), and
`render_metrics` sums them (docs/adr/0008-multi-process-metrics.md).
"""
# ruff: noqa: F403  a star import: a new metric is named in one place

from prometheus_client.metrics import MetricWrapperBase

from orchestrator.instruments import Instrument, documented
from orchestrator.metrics.cache_metrics import *
from orchestrator.metrics.delivery_metrics import *
from orchestrator.metrics.exposition import CONTENT_TYPE as CONTENT_TYPE
from orchestrator.metrics.exposition import count_fast as count_fast
from orchestrator.metrics.exposition import render_metrics as render_metrics
from orchestrator.metrics.image_server_metrics import *
from orchestrator.metrics.ingest_metrics import *
from orchestrator.metrics.job_metrics import *
from orchestrator.metrics.process_metrics import *
from orchestrator.metrics.request_metrics import *

INSTRUMENTS: tuple[Instrument, ...] = tuple(documented)


def all_metrics() -> list[MetricWrapperBase]:
    """The metric objects, for the test that compares them with INSTRUMENTS."""
    return [value for value in globals().values() if isinstance(value, MetricWrapperBase)]
