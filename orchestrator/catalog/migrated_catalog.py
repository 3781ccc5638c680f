"""Opens the catalogue of a database that may be new, or older than this version."""

from __future__ import annotations

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.change_jobs import ChangeJobs
from orchestrator.catalog.customers import FIRST_CUSTOMER
from orchestrator.catalog.migrator import migrate
from orchestrator.settings import Database


async def open_migrated(settings: Database, change_jobs: ChangeJobs | None = None) -> Catalog:
    """Migrate the database, and open its catalogue, which has the first customer. The caller closes
    it. Raises CatalogUnavailable.
    """
    await migrate(settings)
    catalog = await Catalog.open(settings, change_jobs)
    try:
        await catalog.customers.ensure(*FIRST_CUSTOMER)
    except BaseException:  # raised again, after the pool is closed
        await catalog.close()
        raise
    return catalog
