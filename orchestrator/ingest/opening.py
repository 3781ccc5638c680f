"""All kinds of origins put together, with what they need, and closed again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from orchestrator.catalog.strategies import OriginStrategies
from orchestrator.ingest.credentials import CredentialStore, Vault
from orchestrator.ingest.file import FileReader
from orchestrator.ingest.http import HttpReader
from orchestrator.ingest.origins import Origins
from orchestrator.ingest.reading import OriginReader
from orchestrator.ingest.strategies import Kind, Strategies
from orchestrator.settings import Ingest


@dataclass(frozen=True, slots=True)
class OpenOrigins:
    """Origins, and the strategies they are read by."""

    origins: Origins
    strategies: Strategies
    credentials: CredentialStore


@asynccontextmanager
async def open_origins(
    settings: Ingest, repository: OriginStrategies, keys: Sequence[str]
) -> AsyncIterator[OpenOrigins]:
    """`keys` seal credentials, newest first. Raises InvalidInput when one is no key."""
    async with HttpReader(settings) as http:
        credentials = CredentialStore(
            Vault(keys),
            None,
            ttl_s=settings.credentials_ttl_s,
            allowed_links=settings.credentials_links,
        )
        strategies = Strategies(
            repository,
            credentials,
            ttl_s=settings.strategies_ttl_s,
            match_timeout_s=settings.regex_timeout_s,
        )
        readers: dict[Kind, OriginReader] = {
            Kind.DEFAULT: http,
            Kind.BASIC: http,
            Kind.FILE: FileReader(),
        }
        origins = Origins(readers, strategies, credentials, settings=settings)
        yield OpenOrigins(origins, strategies, credentials)
