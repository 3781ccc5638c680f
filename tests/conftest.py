"""The real servers that all tests of a pytest process share, and the profiles of Hypothesis.

The servers are fixtures here and nowhere else: a fixture that several conftest.py import starts one
server for each of them.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.support.server_fixtures import (
    catalog,
    database,
    empty_database,
    postgres,
    s3_server,
    sqs_server,
)

# An example may take long on a busy machine. `make test` tries the same examples in every run, so
# that a change fails by its own faults alone; `make soak` looks for new ones.
for _profile, _repeats in (("repeatable", True), ("search", False)):
    settings.register_profile(
        _profile,
        deadline=None,
        derandomize=_repeats,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile("repeatable")

__all__ = ["catalog", "database", "empty_database", "postgres", "s3_server", "sqs_server"]
