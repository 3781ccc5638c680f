"""The manifest of one image."""

from __future__ import annotations

from orchestrator.iiif.access_services import AccessAddresses, access_service
from orchestrator.iiif.presentation.presentation_input import ManifestInput
from orchestrator.iiif.presentation.versions import PRESENTATION_VERSIONS
from orchestrator.manifests.canvases import CanvasBuilder, Viewing, visible_edge
from orchestrator.manifests.json_frame import JsonFrame
from orchestrator.model import Asset


def single_manifest(
    builder: CanvasBuilder, asset: Asset, viewing: Viewing, *, manifest_id: str, version: int
) -> bytes:
    """The manifest of the asset in version 2 (2.1) or 3 (3.0) of the Presentation API, as JSON."""
    is_hidden = visible_edge(asset, viewing.covers) == 0
    canvas = builder.build(asset, 1, viewing)
    addresses = AccessAddresses(viewing.urls.base, asset.id.customer)
    api = PRESENTATION_VERSIONS[version]
    facts = ManifestInput(
        id=manifest_id,
        label=asset.id.name if is_hidden else canvas.label,
        metadata=canvas.metadata,
        rights=canvas.rights,
        thumbnail=canvas.thumbnail,
        services=[access_service(addresses, each) for each in builder.access_services(asset)],
        is_restricted=bool(canvas.access_2),
    )
    return JsonFrame.of(api.manifest(facts)).whole([api.canvas(canvas)])
