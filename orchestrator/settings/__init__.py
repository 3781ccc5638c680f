"""Typed settings: built-in defaults < a TOML file < environment < command line. Nothing else reads
the environment.

`sections` and `engine` declare every setting once, with its default and what it means; `loading`
reads and checks them, `rules` holds what sections must agree on, `document` writes
`config/default.toml` and the table in `docs/settings.md` from the declarations.
"""

from orchestrator.settings.documentation import default_toml, settings_table
from orchestrator.settings.engine_sections import Api, Ingest, Jobs
from orchestrator.settings.loader import ALIASES, PREFIX, Loaded, load, load_with_origins
from orchestrator.settings.sections import (
    Auth,
    Cache,
    CacheRule,
    Database,
    Delivery,
    Iiif,
    ImageServer,
    Imaging,
    Log,
    Server,
    Settings,
    Storage,
    UpscaleRule,
)

__all__ = [
    "ALIASES",
    "PREFIX",
    "Api",
    "Auth",
    "Cache",
    "CacheRule",
    "Database",
    "Delivery",
    "Iiif",
    "ImageServer",
    "Imaging",
    "Ingest",
    "Jobs",
    "Loaded",
    "Log",
    "Server",
    "Settings",
    "Storage",
    "UpscaleRule",
    "default_toml",
    "load",
    "load_with_origins",
    "settings_table",
]
