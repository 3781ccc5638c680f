"""Checks of Presentation API documents: by the schema of 3.0 (iiif-prezi3 is generated from it), by
the reader of 2.1 (iiif-prezi), and by rules that neither has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

Document = dict[str, Any]


def _load_context(url: str, _options: object = None) -> Document:
    """A context of iiif-prezi. Its own function returns what PyLD wanted years ago."""
    from iiif_prezi.loader import load_document_local

    loaded = load_document_local(url)
    return {
        **loaded,
        "contentType": "application/ld+json",
        "documentUrl": url,
        "document": json.loads(loaded["document"]),
    }


def check_document(document: Document, version: int) -> None:
    """Fail unless the document is valid in this version."""
    if version == 2:
        _check_2(document)
    else:
        _check_3(document)
    _check_identifiers(document)


def canvases_of(manifest: Document) -> list[Document]:
    """The canvases of a manifest of either version."""
    if "sequences" in manifest:
        return list(manifest["sequences"][0]["canvases"])
    return list(manifest["items"])


def members_of(collection: Document) -> list[str]:
    """The ids of the members of a collection of either version."""
    key = next(name for name in ("items", "manifests", "collections") if name in collection)
    return [each.get("id") or each["@id"] for each in collection[key]]


def _check_3(document: Document) -> None:
    from iiif_prezi3 import Collection, Manifest

    model = {"Manifest": Manifest, "Collection": Collection}[document["type"]]
    model.model_validate(document)
    contexts = document["@context"]
    last = contexts if isinstance(contexts, str) else contexts[-1]
    assert last == "http://iiif.io/api/presentation/3/context.json"
    for each in _objects(document):
        for name in ("label", "value", "summary"):
            if name in each and "type" not in each.get(name, {}):
                assert all(
                    isinstance(texts, list) and all(isinstance(text, str) for text in texts)
                    for texts in each[name].values()
                ), each
        if each.get("type") in ("Manifest", "Canvas"):
            # Plain text that a reader would take for HTML has a space at its end.
            assert all(not is_html(text) for text in _texts(each)), each


def _check_2(document: Document) -> None:
    from iiif_prezi.loader import ManifestReader
    from pyld import jsonld

    jsonld.set_document_loader(_load_context)
    reader = ManifestReader(json.dumps(_without_access(document)), version="2.1")
    reader.read()
    # It does not know the properties of an image service, which may be part of it (appendix A).
    warnings = [each for each in reader.get_warnings() if "'sizes'" not in each]
    assert not warnings, warnings
    assert document["@context"] == "http://iiif.io/api/presentation/2/context.json"
    for each in _objects(document):
        for name in ("label", "value", "attribution"):
            assert isinstance(each.get(name, ""), str)
            assert not is_html(each.get(name, ""))


def _without_access(value: Any) -> Any:
    """The document without the services of the Authentication API: the reader refuses one that has
    no id, as that API allows.
    """
    if isinstance(value, list):
        return [_without_access(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _without_access(each)
        for name, each in value.items()
        if not (name == "service" and "/api/auth/" in json.dumps(each)[:60])
    }


def is_html(text: str) -> bool:
    """True if a reader takes the text for HTML (Presentation 3.0, section 4.4)."""
    return text.startswith("<") and text.endswith(">")


def _check_identifiers(document: Document) -> None:
    """Every id is an absolute URI without blanks; canvases have different ones."""
    seen: list[str] = []
    for each in _objects(document):
        identifier = each.get("id") or each.get("@id")
        kind = each.get("type") or each.get("@type")
        if identifier is None:
            continue
        address = urlsplit(identifier)
        assert address.scheme in ("http", "https"), identifier
        assert address.netloc, identifier
        assert identifier.isascii(), identifier
        assert " " not in identifier
        if kind in ("Canvas", "sc:Canvas"):
            seen.append(identifier)
    assert len(set(seen)) == len(seen)


def _texts(each: Document) -> list[str]:
    pairs = [*each.get("metadata", []), each, each.get("requiredStatement", {})]
    maps = [pair[name] for pair in pairs for name in ("label", "value") if name in pair]
    return [text for texts in maps for values in texts.values() for text in values]


def _objects(value: Any) -> Iterator[Document]:
    """Every object in a document."""
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from _objects(each)
    elif isinstance(value, list):
        for each in value:
            yield from _objects(each)
