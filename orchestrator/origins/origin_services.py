"""Builds everything that reads origins, and closes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from orchestrator.catalog.stored_strategies import OriginStrategies
from orchestrator.origins.access_resolver import AccessResolver
from orchestrator.origins.checked_sockets import address_rule, create_socket
from orchestrator.origins.configured_buckets import ConfiguredBuckets
from orchestrator.origins.credential_store import CredentialStore, CredentialVault
from orchestrator.origins.file_reader import FileReader
from orchestrator.origins.ftp_reader import FtpReader
from orchestrator.origins.http_reader import HttpReader
from orchestrator.origins.optimised_origins import OptimisedOrigins
from orchestrator.origins.origin_fetcher import OriginFetcher
from orchestrator.origins.origin_kinds import OriginKind
from orchestrator.origins.own_data import OwnData
from orchestrator.origins.reader_types import OriginReader
from orchestrator.origins.s3_reader import S3Reader
from orchestrator.origins.sent_reader import SentReader
from orchestrator.origins.sftp_reader import SftpReader
from orchestrator.origins.strategy_editor import StrategyEditor
from orchestrator.origins.strategy_matcher import StrategyMatcher
from orchestrator.settings import Ingest
from orchestrator.storage.customer_buckets import BucketReader
from orchestrator.storage.store import ObjectStore


@dataclass(frozen=True, slots=True)
class OriginServices:
    """The parts that other packages use."""

    fetcher: OriginFetcher
    optimised: OptimisedOrigins
    strategies: StrategyEditor
    matcher: StrategyMatcher
    http: HttpReader


@asynccontextmanager
async def open_origins(
    settings: Ingest,
    repository: OriginStrategies,
    keys: Sequence[str],
    own: OwnData,
    configured: ConfiguredBuckets | None = None,
    *,
    store: ObjectStore | None = None,
) -> AsyncIterator[OriginServices]:
    """Open the readers. `keys` seal credentials, newest first; `own` data are never an origin;
    those in the `configured` buckets need no strategy. Pictures that clients sent are in the
    `store`. Raises InvalidInput for a malformed key.
    """
    is_permitted = address_rule(settings)
    async with (
        HttpReader(settings) as http,
        BucketReader(
            connect_timeout_s=settings.connect_timeout_s,
            read_timeout_s=settings.read_timeout_s,
            socket_factory=lambda info: create_socket(info, is_permitted),
        ) as buckets,
    ):
        s3 = S3Reader(settings, buckets, own)
        credentials = CredentialStore(
            CredentialVault(keys),
            s3.read_small,
            ttl_s=settings.credentials_ttl_s,
            allowed_links=settings.credentials_links,
        )
        matcher = StrategyMatcher(repository, ttl_s=settings.strategies_ttl_s)
        readers: dict[OriginKind, OriginReader] = {
            OriginKind.DEFAULT: http,
            OriginKind.BASIC: http,
            OriginKind.S3: s3,
            OriginKind.S3_AMBIENT: s3,
            OriginKind.S3_PUBLIC: s3,
            OriginKind.SFTP: SftpReader(settings),
            OriginKind.FTP: FtpReader(settings),
            OriginKind.FILE: FileReader(own),
        }
        if store is not None:
            readers[OriginKind.SENT] = SentReader(store)
        resolver = AccessResolver(matcher, credentials, configured)
        yield OriginServices(
            OriginFetcher(readers, resolver, settings, own),
            OptimisedOrigins(resolver, s3),
            StrategyEditor(repository, credentials, matcher),
            matcher,
            http,
        )
