"""Documents of the IIIF Presentation API 2.1. The list that a caller fills (canvases, members) is
the last property of each. Image services are those of version 2 alone, because viewers of this API
know no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.iiif.info_documents import CONTEXTS as IMAGE_CONTEXTS
from orchestrator.iiif.info_documents import profile_uri
from orchestrator.iiif.presentation.presentation_input import (
    CONTEXTS,
    CanvasInput,
    CollectionInput,
    Document,
    ManifestInput,
    Reference,
    Services,
    Thumbnail,
    picture_uri,
    plain,
    rights_uri,
    sides,
    size_list,
    without_empty,
)
from orchestrator.iiif.scale import Dimensions


def manifest(facts: ManifestInput) -> Document:
    """A manifest (section 5.1) with one sequence, whose `canvases` are empty."""
    document = {
        "@context": CONTEXTS[2],
        "@id": facts.id,
        "@type": "sc:Manifest",
        "label": plain(facts.label),
        "metadata": _metadata(facts.metadata),
        **_rights(facts.rights),
        "thumbnail": _thumbnail(facts.thumbnail),
        "within": _within(facts.part_of),
    }
    sequence = {"@id": f"{facts.id}/sequence/normal", "@type": "sc:Sequence", "canvases": []}
    return {**without_empty(document), "sequences": [sequence]}


def canvas(facts: CanvasInput) -> Document:
    """A canvas (section 5.3) with its image."""
    annotation = {
        "@id": f"{facts.id}/page/image",
        "@type": "oa:Annotation",
        "motivation": "sc:painting",
        "resource": {
            "@id": _resource_uri(facts),
            "@type": "dctypes:Image",
            "format": "image/jpeg",
            **sides(facts.image),
            "service": _image_service(facts.services, level=2, access=facts.access_1),
        },
        "on": facts.id,
    }
    document = {
        "@id": facts.id,
        "@type": "sc:Canvas",
        "label": plain(facts.label),
        "width": facts.dimensions[0],
        "height": facts.dimensions[1],
        "metadata": _metadata(facts.metadata),
        **_rights(facts.rights),
        "thumbnail": _thumbnail(facts.thumbnail),
    }
    return {**without_empty(document), "images": [annotation]}


def collection(facts: CollectionInput) -> Document:
    """A collection (section 5.8) whose list is empty: `manifests` or `collections`, which viewers
    of 2.0 know as well, and not the `members` of 2.1.
    """
    document = {
        "@context": CONTEXTS[2],
        "@id": facts.id,
        "@type": "sc:Collection",
        "label": plain(facts.label),
        "within": _within(facts.part_of),
    }
    return {**without_empty(document), f"{facts.holds.lower()}s": []}


def member(facts: Reference) -> Document:
    """A manifest or collection as a member of a collection."""
    return without_empty(
        {
            "@id": facts.id,
            "@type": f"sc:{facts.type}",
            "label": plain(facts.label),
            "thumbnail": _thumbnail(facts.thumbnail),
        }
    )


def _resource_uri(facts: CanvasInput) -> str:
    if facts.image is not None:
        return picture_uri(facts.services, 2, facts.image)
    return f"{facts.services[2]}/full/full/0/default.jpg"


def _image_service(
    services: Services,
    *,
    level: int,
    sizes: Sequence[Dimensions] = (),
    access: Sequence[Mapping[str, Any]] = (),
) -> Document:
    service: Document = {
        "@context": IMAGE_CONTEXTS[2],
        "@id": services[2],
        "profile": profile_uri(2, level=level),
    }
    if sizes:
        service["sizes"] = size_list(sizes)
    if access:
        described = [dict(each) for each in access]
        service["service"] = described[0] if len(described) == 1 else described
    return service


def _thumbnail(facts: Thumbnail | None) -> Document | str:
    if facts is None:
        return ""
    level = 0 if facts.sizes else 2
    return {
        "@id": picture_uri(facts.services, 2, facts.size),
        "@type": "dctypes:Image",
        "format": "image/jpeg",
        **sides(facts.size),
        "service": _image_service(facts.services, level=level, sizes=facts.sizes),
    }


def _metadata(pairs: Sequence[tuple[str, str]]) -> list[Document]:
    return [{"label": plain(name), "value": plain(text)} for name, text in pairs]


def _rights(rights: str) -> Document:
    """A statement that is no URI is an attribution."""
    uri = rights_uri(rights)
    return {"license": uri} if uri or not rights else {"attribution": plain(rights)}


def _within(facts: Reference | None) -> str:
    return facts.id if facts is not None else ""
