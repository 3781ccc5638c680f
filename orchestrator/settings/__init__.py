"""Typed settings. Later sources override earlier ones: defaults, a TOML file, the environment, the
command line. No other code reads the environment.

`sections` and the modules of single sections (`auth_section`, `ico_section` ...) declare every
setting once, with its default and meaning. `loader` reads and checks them. `replaced_variables` has
those of replaced systems. `consistency` holds the rules between settings.
`documentation` writes `config/default.toml` and the tables of `docs/settings.md`.
"""

from orchestrator.settings.auth_section import Auth, AuthService, AuthUser
from orchestrator.settings.documentation import default_toml, settings_table
from orchestrator.settings.ico_section import Ico, IcoBucket
from orchestrator.settings.image_server_section import (
    ImageServer,
    ImageServerPool,
    ImageServerRule,
)
from orchestrator.settings.ingest_sections import Api, Ingest, Jobs
from orchestrator.settings.loader import PREFIX, Loaded, load, load_with_origins
from orchestrator.settings.manifests_section import Manifests
from orchestrator.settings.promotion_section import Promotion
from orchestrator.settings.pyramid_section import BucketLogin, Pyramids
from orchestrator.settings.replaced_variables import ALIASES
from orchestrator.settings.sections import (
    Cache,
    CacheRule,
    Database,
    Delivery,
    Iiif,
    Imaging,
    Log,
    Server,
    Settings,
    Storage,
    UpscaleRule,
)
from orchestrator.settings.uploads_section import ResizingRule, Uploads

__all__ = [
    "ALIASES",
    "PREFIX",
    "Api",
    "Auth",
    "AuthService",
    "AuthUser",
    "BucketLogin",
    "Cache",
    "CacheRule",
    "Database",
    "Delivery",
    "Ico",
    "IcoBucket",
    "Iiif",
    "ImageServer",
    "ImageServerPool",
    "ImageServerRule",
    "Imaging",
    "Ingest",
    "Jobs",
    "Loaded",
    "Log",
    "Manifests",
    "Promotion",
    "Pyramids",
    "ResizingRule",
    "Server",
    "Settings",
    "Storage",
    "Uploads",
    "UpscaleRule",
    "default_toml",
    "load",
    "load_with_origins",
    "settings_table",
]
