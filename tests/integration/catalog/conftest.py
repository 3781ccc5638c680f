"""A real PostgreSQL server, an empty database for each test, the catalogue over it."""

from __future__ import annotations

from tests.support.server_fixtures import catalog, database, postgres

__all__ = ["catalog", "database", "postgres"]
