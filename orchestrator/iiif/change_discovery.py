"""The documents of IIIF Change Discovery 1.0, level 2 (https://iiif.io/api/discovery/1.0/).
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

CONTEXT = "http://iiif.io/api/discovery/1/context.json"
MEDIA_TYPE = f'application/ld+json;profile="{CONTEXT}"'


def change_collection(collection_id: str, first: str, last: str) -> dict[str, Any]:
    """Return the collection of all changes; `first` and `last` are the ids of its pages."""
    return {
        "@context": CONTEXT,
        "id": collection_id,
        "type": "OrderedCollection",
        "first": {"id": first, "type": "OrderedCollectionPage"},
        "last": {"id": last, "type": "OrderedCollectionPage"},
    }


def change_page(
    page_id: str,
    collection_id: str,
    items: Iterable[dict[str, Any]],
    *,
    previous: str | None,
    following: str | None,
) -> dict[str, Any]:
    """Return a page of the collection, with items in the order of their time; `previous` and
    `following` are the ids of other pages.
    """
    page: dict[str, Any] = {
        "@context": CONTEXT,
        "id": page_id,
        "type": "OrderedCollectionPage",
        "partOf": {"id": collection_id, "type": "OrderedCollection"},
    }
    if previous is not None:
        page["prev"] = {"id": previous, "type": "OrderedCollectionPage"}
    if following is not None:
        page["next"] = {"id": following, "type": "OrderedCollectionPage"}
    return {**page, "orderedItems": list(items)}


def change_item(kind: str, manifest_id: str, at: datetime) -> dict[str, Any]:
    """Return one activity: Create, Update or Delete of a manifest."""
    return {
        "type": kind,
        "object": {"id": manifest_id, "type": "Manifest"},
        "endTime": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
