"""Typed settings. Later sources override earlier ones: defaults, a TOML file, the environment, the
command line. No other code reads the environment.

`sections`, `ingest_sections`, `pyramid_section` and `ico_section` declare every setting once, with
its default and meaning. `loader` reads and checks them. `consistency` holds the rules between
settings.
`documentation` writes `config/default.toml` and the tables of `docs/settings.md`.
"""

from orchestrator.settings.documentation import default_toml, settings_table
from orchestrator.settings.ico_section import Ico, IcoBucket
from orchestrator.settings.ingest_sections import Api, Ingest, Jobs
from orchestrator.settings.loader import ALIASES, PREFIX, Loaded, load, load_with_origins
from orchestrator.settings.pyramid_section import Pyramids
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
    "Ico",
    "IcoBucket",
    "Iiif",
    "ImageServer",
    "Imaging",
    "Ingest",
    "Jobs",
    "Loaded",
    "Log",
    "Pyramids",
    "Server",
    "Settings",
    "Storage",
    "UpscaleRule",
    "default_toml",
    "load",
    "load_with_origins",
    "settings_table",
]
