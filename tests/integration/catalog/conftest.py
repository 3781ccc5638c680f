"""A real PostgreSQL server, a database for each test, the catalogue over it."""

from __future__ import annotations

from tests.support.server_fixtures import catalog, database, empty_database, postgres

__all__ = ["catalog", "database", "empty_database", "postgres"]
