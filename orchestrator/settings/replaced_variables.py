"""Environment variables of the systems that this product replaces, and their settings here.

An empty variable counts as unset: the example file of the replaced upload service has
`ACTIVE_FOLDER:` without a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

ALIASES: Mapping[str, str] = {
    "STORAGE_BACKEND": "uploads.backend",
    "TEMP_FOLDER": "uploads.temp_folder",
    "INCOMING_FOLDER": "uploads.incoming_folder",
    "ACTIVE_FOLDER": "uploads.active_folder",
    "INCOMING_BUCKET": "uploads.incoming_bucket",
    "ACTIVE_BUCKET": "uploads.active_bucket",
    "S3_SIGNATURE_VERSION": "uploads.signature_version",
    "API_SECRET_KEY": "uploads.secrets",
    "V5_DATABASE_URL": "uploads.v5_database",
    "ROUTE_PREFIX": "uploads.route_prefix",
    "RESIZING_CONFIG": "uploads.resizing",
    "CACHE_CONTROL": "uploads.cache_control",
    "AUTO_ORIENT_ORIGINAL": "uploads.auto_orient_original",
    "MASH_ICO_QUOTA": "ico.quota",
    "MASH_ICO_S3_REGION": "ico.region",
    "MASH_ICO_S3_BUCKET": "ico.bucket",
    "MASH_ICO_S3_ACCESS_KEY": "ico.access_key",
    "MASH_ICO_S3_SECRET_KEY": "ico.secret_key",
    "RBSC_BUCKET": "pyramids.source_bucket",
    "PROCESS_BUCKET": "pyramids.process_bucket",
    "IMAGE_BUCKET": "pyramids.image_bucket",
    "MAX_THREADS": "pyramids.max_threads",
}
"""The variables with a fixed name."""
STORES: Mapping[str, str] = {"INCOMING_PREFIX": "incoming", "ACTIVE_PREFIX": "active"}
"""Variables that name the prefix of further ones, and the store that these configure."""
PREFIXED: Mapping[str, str] = {
    "ENDPOINT": "endpoint",
    "DEFAULT_REGION": "region",
    "ACCESS_KEY_ID": "access_key",
    "SECRET_KEY": "secret_key",
}
"""The variables with a prefix, `EXO_ENDPOINT` for `ACTIVE_PREFIX=EXO`, and the ends of the settings
that they are: `uploads.active_endpoint`.
"""
VERBATIM = frozenset(("API_SECRET_KEY",))
"""Variables whose whole text is the only item of a list."""


def read_aliases(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Every alias that is set, as (variable, name of the setting, text)."""
    pairs = list(ALIASES.items())
    for variable, store in STORES.items():
        if prefix := environ.get(variable):
            pairs += [
                (f"{prefix}_{suffix}", f"uploads.{store}_{end}") for suffix, end in PREFIXED.items()
            ]
    return (
        (variable, name, environ[variable]) for variable, name in pairs if environ.get(variable)
    )
