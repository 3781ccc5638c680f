"""All kinds of origins put together, with what they need, and closed again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from orchestrator.catalog.stored_strategies import OriginStrategies
from orchestrator.origins.credentials import CredentialStore, Vault
from orchestrator.origins.file_reader import FileReader
from orchestrator.origins.ftp_reader import FtpReader
from orchestrator.origins.http_reader import HttpReader
from orchestrator.origins.origins import Origins
from orchestrator.origins.reader_types import OriginReader
from orchestrator.origins.s3_reader import S3Reader
from orchestrator.origins.sftp_reader import SftpReader
from orchestrator.origins.sockets import new_socket, permitted_by
from orchestrator.origins.strategies import Kind, Strategies
from orchestrator.settings import Ingest
from orchestrator.storage.customer_buckets import S3Objects


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
    permitted = permitted_by(settings)
    async with (
        HttpReader(settings) as http,
        S3Objects(
            connect_timeout_s=settings.connect_timeout_s,
            read_timeout_s=settings.read_timeout_s,
            socket_factory=lambda info: new_socket(info, permitted),
        ) as objects,
    ):
        s3 = S3Reader(settings, objects)
        credentials = CredentialStore(
            Vault(keys),
            s3,
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
            Kind.S3: s3,
            Kind.S3_AMBIENT: s3,
            Kind.S3_PUBLIC: s3,
            Kind.SFTP: SftpReader(settings),
            Kind.FTP: FtpReader(settings),
            Kind.FILE: FileReader(),
        }
        origins = Origins(readers, strategies, credentials, settings=settings, sources=s3)
        yield OpenOrigins(origins, strategies, credentials)
