"""The kinds of origin, and which kind an origin is. Each kind has its own way of reading."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from orchestrator.catalog.values import OriginStrategy
from orchestrator.errors import InvalidInput, OriginUnavailable
from orchestrator.origins.origin_address import scheme_of


class OriginKind(StrEnum):
    """The kinds, under the names that origin strategies give them."""

    DEFAULT = "default"
    BASIC = "basic-http-auth"
    S3_AMBIENT = "s3-ambient"
    S3 = "s3"
    S3_PUBLIC = "s3-public"
    SFTP = "sftp"
    FTP = "ftp"
    FILE = "file"
    SENT = "upload"
    """Sent in the body of a request. No strategy may have this kind."""


NEEDS_CREDENTIALS = frozenset({OriginKind.BASIC, OriginKind.S3, OriginKind.SFTP})
ACCEPTS_CREDENTIALS = NEEDS_CREDENTIALS | {OriginKind.FTP}
BUCKET_KINDS = frozenset({OriginKind.S3, OriginKind.S3_AMBIENT, OriginKind.S3_PUBLIC})
OPTIMISABLE = BUCKET_KINDS | {OriginKind.FILE}
"""Kinds whose origins can be served without a copy in the object store."""

_ALIASES = {
    "basic-http-authentication": OriginKind.BASIC,
    "s3-keyed": OriginKind.S3,
    "s3-unsigned": OriginKind.S3_PUBLIC,
}
_BY_SCHEME = {
    "http": OriginKind.DEFAULT,
    "https": OriginKind.DEFAULT,
    "ftp": OriginKind.FTP,
    "file": OriginKind.FILE,
    "upload": OriginKind.SENT,
}
"""How an origin is read without a strategy, and under a strategy of the kind `default`."""
_READABLE_SCHEMES: Mapping[OriginKind, frozenset[str]] = {
    OriginKind.DEFAULT: frozenset(_BY_SCHEME),
    OriginKind.BASIC: frozenset({"http", "https"}),
    OriginKind.S3: frozenset({"s3", "http", "https"}),
    OriginKind.S3_AMBIENT: frozenset({"s3", "http", "https"}),
    OriginKind.S3_PUBLIC: frozenset({"s3", "http", "https"}),
    OriginKind.SFTP: frozenset({"sftp"}),
    OriginKind.FTP: frozenset({"ftp"}),
    OriginKind.FILE: frozenset({"file"}),
    OriginKind.SENT: frozenset({"upload"}),
}
_NEEDS_STRATEGY = ("s3", "sftp")


def parse_kind(name: str) -> OriginKind:
    """Return the kind with this name or alias, in any case. Raises InvalidInput."""
    plain = name.strip().lower()
    kinds = {str(kind): kind for kind in OriginKind if kind is not OriginKind.SENT}
    kind = _ALIASES.get(plain) or kinds.get(plain)
    if kind is None:
        raise InvalidInput(
            f"There is no origin strategy {name[:100]!r}. Use one of: {', '.join(kinds)}."
        )
    return kind


def kind_of_strategy(strategy: OriginStrategy) -> OriginKind:
    """Return the kind of a stored strategy.

    Raises OriginUnavailable (origin_config) when this version of the product does not know it.
    """
    try:
        return OriginKind(strategy.strategy)
    except ValueError as error:
        raise _config_fault(
            f"The origin strategy {strategy.id} has an unknown kind. Change or delete it."
        ) from error


def kind_of_origin(origin: str, strategy: OriginStrategy | None) -> OriginKind:
    """Return how to read the origin under this strategy, or without one.

    Raises InvalidInput for a scheme that no kind reads, and OriginUnavailable (origin_config) when
    the strategy cannot read this scheme or the scheme needs a strategy.
    """
    scheme = scheme_of(origin)
    if strategy is None:
        return _kind_without_strategy(scheme)
    kind = kind_of_strategy(strategy)
    if scheme not in _READABLE_SCHEMES[kind]:
        raise _config_fault(
            f"The origin strategy {strategy.id} ({kind}) cannot read {scheme}: origins. "
            "Change its regex or its kind."
        )
    return _BY_SCHEME[scheme] if kind is OriginKind.DEFAULT else kind


def _kind_without_strategy(scheme: str) -> OriginKind:
    kind = _BY_SCHEME.get(scheme)
    if kind is not None:
        return kind
    if scheme in _NEEDS_STRATEGY:
        raise _config_fault(
            f"The customer has no origin strategy for this {scheme}: origin. Add one."
        )
    known = ", ".join(sorted({*_BY_SCHEME, *_NEEDS_STRATEGY}))
    raise InvalidInput(f"Origins cannot have the scheme {scheme}:. Use one of: {known}.")


def _config_fault(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_config")
