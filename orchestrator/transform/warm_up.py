"""The jobs that make results ahead of requests."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.catalog.jobs import JobDraft
from orchestrator.errors import InvalidInput
from orchestrator.transform.result_jobs import ResultItem, job_draft
from orchestrator.transform.stored_results import result_key
from orchestrator.transform.transformer import Transformer, parse_path

MAX_PAIRS = 10_000
"""The largest number of results that one call may request."""


def warm_up_jobs(
    transformer: Transformer, paths: Sequence[str], params: Sequence[str]
) -> list[JobDraft]:
    """A job for each pair of a path and parameters: it makes the result and stores it.

    Raises InvalidInput for too many pairs and for what is no path of a store, no preset and no
    parameters, ObjectNotFound if no store is configured.
    """
    if len(paths) * len(params) > MAX_PAIRS:
        raise InvalidInput(f"At most {MAX_PAIRS} results can be requested at once.")
    store = transformer.stores.choose("", "")
    canonical = {segment: transformer.rules.parse(segment).canonical for segment in params}
    for path in paths:
        if parse_path(path) is not None:
            raise InvalidInput("Results of assets are not stored. Warm up /iiif instead.")
    return [
        job_draft([ResultItem(store, path, segment, text)])
        for path in paths
        for segment, text in canonical.items()
        if result_key(path, segment) is not None
    ]
