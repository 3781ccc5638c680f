"""The functions of each version of the Presentation API by its number, so that a caller needs no
cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.iiif.presentation import v2, v3
from orchestrator.iiif.presentation.presentation_input import (
    CanvasInput,
    CollectionInput,
    ManifestInput,
    Reference,
)

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PresentationVersion:
    """One version. Documents are made with an empty list, which is their last property."""

    manifest: Callable[[ManifestInput], Document]
    canvas: Callable[[CanvasInput], Document]
    collection: Callable[[CollectionInput], Document]
    member: Callable[[Reference], Document]


PRESENTATION_VERSIONS = {
    2: PresentationVersion(v2.manifest, v2.canvas, v2.collection, v2.member),
    3: PresentationVersion(v3.manifest, v3.canvas, v3.collection, v3.member),
}
"""2 is version 2.1, 3 is version 3.0."""
