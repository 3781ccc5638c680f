"""Builders of values for tests. A test names only the fields that it depends on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from orchestrator.model import (
    Asset,
    AssetId,
    AssetState,
    Source,
    SourceKind,
    ThumbnailSizes,
)

LANDSCAPE = ((1024, 651), (400, 254), (200, 127), (100, 64))
PORTRAIT = tuple((h, w) for w, h in LANDSCAPE)
SQUARES = ((1024, 1024), (400, 400), (200, 200), (100, 100))


def a_source(**changes: Any) -> Source:
    """A pyramid TIFF in the store."""
    values: dict[str, Any] = {
        "location": "store:1/1/sample/1/source.tif",
        "kind": SourceKind.PYRAMID_TIFF,
        "bytes": 1000,
        "fingerprint": '"abc"',
        "extension": "tif",
        "tile_width": 256,
        "tile_height": 256,
        "levels": 4,
    }
    return Source(**{**values, **changes})


def an_asset(**changes: Any) -> Asset:
    """A converted, public asset of 4000 x 2543 pixels with four open thumbnails."""
    values: dict[str, Any] = {
        "id": AssetId(1, 1, "sample"),
        "version": 1,
        "state": AssetState.READY,
        "width": 4000,
        "height": 2543,
        "thumbnails": ThumbnailSizes(open=LANDSCAPE),
        "thumbnails_version": 1,
        "source": a_source(),
        "updated": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    return Asset(**{**values, **changes})
