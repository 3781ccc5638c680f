"""Documents of the IIIF Presentation API 3.0. The list that a caller fills (canvases, members) is
the last property of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.iiif.access_services import CONTEXT_2 as AUTH_CONTEXT
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
    """A manifest (section 5.2) whose `items` are empty."""
    document = {
        "@context": [AUTH_CONTEXT, CONTEXTS[3]] if facts.is_restricted else CONTEXTS[3],
        "id": facts.id,
        "type": "Manifest",
        "label": _language_map(facts.label),
        "metadata": _metadata(facts.metadata),
        **_rights(facts.rights),
        "thumbnail": _thumbnails(facts.thumbnail),
        "services": [dict(each) for each in facts.services],
        "partOf": _part_of(facts.part_of),
    }
    return {**without_empty(document), "items": []}


def canvas(facts: CanvasInput) -> Document:
    """A canvas (section 5.3) with its image."""
    annotation = {
        "id": f"{facts.id}/page/image",
        "type": "Annotation",
        "motivation": "painting",
        "body": _body(facts),
        "target": facts.id,
    }
    page = {"id": f"{facts.id}/page", "type": "AnnotationPage", "items": [annotation]}
    document = {
        "id": facts.id,
        "type": "Canvas",
        "label": _language_map(facts.label),
        "width": facts.dimensions[0],
        "height": facts.dimensions[1],
        "metadata": _metadata(facts.metadata),
        **_rights(facts.rights),
        "thumbnail": _thumbnails(facts.thumbnail),
    }
    return {**without_empty(document), "items": [page]}


def collection(facts: CollectionInput) -> Document:
    """A collection (section 5.1) whose `items` are empty."""
    document = {
        "@context": CONTEXTS[3],
        "id": facts.id,
        "type": "Collection",
        "label": _language_map(facts.label),
        "partOf": _part_of(facts.part_of),
    }
    return {**without_empty(document), "items": []}


def member(facts: Reference) -> Document:
    """A manifest or collection as a member of a collection."""
    return without_empty(
        {
            "id": facts.id,
            "type": facts.type,
            "label": _language_map(facts.label),
            "thumbnail": _thumbnails(facts.thumbnail),
        }
    )


def _body(facts: CanvasInput) -> Document:
    picture = {
        "id": _body_uri(facts),
        "type": "Image",
        "format": "image/jpeg",
        **sides(facts.image),
    }
    access = [dict(each) for each in facts.access_2]
    # A client finds the services at the picture as well as at the image service (Authorization
    # Flow 2.0, section 3.2).
    services = [*_image_services(facts.services, level=2, access=access), *access]
    return {**picture, "service": services}


def _body_uri(facts: CanvasInput) -> str:
    if facts.image is not None:
        return picture_uri(facts.services, 3, facts.image)
    return f"{facts.services[max(facts.services)]}/full/max/0/default.jpg"


def _image_services(
    services: Services,
    *,
    level: int,
    sizes: Sequence[Dimensions] = (),
    access: Sequence[Mapping[str, Any]] = (),
) -> list[Document]:
    """The services, newest version first. Version 2 has the property names of its own API."""
    described: list[Document] = []
    for version, base in sorted(services.items(), reverse=True):
        at = "@" if version == 2 else ""
        service: Document = {
            f"{at}id": base,
            f"{at}type": f"ImageService{version}",
            "profile": profile_uri(2, level=level) if version == 2 else f"level{level}",
        }
        if sizes:
            service["sizes"] = size_list(sizes)
        if access:
            service["service"] = list(access)
        described.append(service)
    return described


def _thumbnails(facts: Thumbnail | None) -> list[Document]:
    if facts is None:
        return []
    level = 0 if facts.sizes else 2
    return [
        {
            "id": picture_uri(facts.services, 3, facts.size),
            "type": "Image",
            "format": "image/jpeg",
            **sides(facts.size),
            "service": _image_services(facts.services, level=level, sizes=facts.sizes),
        }
    ]


def _language_map(text: str, language: str = "none") -> Document:
    return {language: [plain(text)]}


def _metadata(pairs: Sequence[tuple[str, str]]) -> list[Document]:
    return [{"label": _language_map(name), "value": _language_map(text)} for name, text in pairs]


def _rights(rights: str) -> Document:
    """A statement that is no URI is a required statement."""
    uri = rights_uri(rights)
    if uri or not rights:
        return {"rights": uri}
    return {
        "requiredStatement": {
            "label": _language_map("Rights", "en"),
            "value": _language_map(rights),
        }
    }


def _part_of(facts: Reference | None) -> list[Document]:
    if facts is None:
        return []
    return [{"id": facts.id, "type": facts.type, "label": _language_map(facts.label)}]
