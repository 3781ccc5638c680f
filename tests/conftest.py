"""The real servers that all tests of a pytest process share.

They are fixtures here and nowhere else: a fixture that several conftest.py import starts one server
for each of them.
"""

from __future__ import annotations

from tests.support.server_fixtures import (
    catalog,
    database,
    empty_database,
    postgres,
    s3_server,
    sqs_server,
)

__all__ = ["catalog", "database", "empty_database", "postgres", "s3_server", "sqs_server"]
