"""The operations of assets."""

from __future__ import annotations

from orchestrator.ingest.payload.fields import Body
from orchestrator.web.api import image_models, request_models, work_models
from orchestrator.web.api.image_list_resource import ImageListResource
from orchestrator.web.api.image_resource import ImageResource
from orchestrator.web.api.operations import Operation, Responses
from orchestrator.web.api.selection_models import SearchQuery

_IMAGES = "/customers/{customer}/spaces/{space}/images"
_IMAGE = f"{_IMAGES}/{{image}}"
_ALL = "/customers/{customer}/allImages"


def list_operations(resource: ImageListResource) -> list[Operation]:
    """Return the operations that list and search assets."""
    images: Responses = {200: image_models.Images}
    return [
        Operation(
            "GET",
            _IMAGES,
            resource.list_space,
            "List, search and order the assets of a space",
            images,
            query=SearchQuery,
        ),
        Operation(
            "GET",
            _ALL,
            resource.list_all,
            "List, search and order the assets of a customer",
            images,
            query=SearchQuery,
        ),
    ]


def image_operations(resource: ImageResource) -> list[Operation]:
    """Return the operations of assets."""
    put: Responses = {
        200: image_models.ImageTaken,
        201: image_models.ImageTaken,
        202: work_models.Accepted,
    }
    ingest: Responses = {200: image_models.ImageTaken, 202: work_models.Accepted}
    patch: Responses = {200: image_models.ImageOut, 202: work_models.Accepted}
    return [
        Operation(
            "POST",
            "/asset-ingest",
            resource.ingest,
            "Ingest an asset",
            ingest,
            body=Body,
            raw=True,
            can_respond_async=True,
            aliases=("/image-ingest",),
        ),
        Operation("GET", _IMAGE, resource.show, "Show an asset", {200: image_models.ImageShown}),
        Operation(
            "PUT",
            _IMAGE,
            resource.put,
            "Create or replace an asset, from an origin or from the picture in the body",
            put,
            body=Body,
            raw=True,
            query=request_models.PictureQuery,
            can_respond_async=True,
            takes_picture=True,
        ),
        Operation(
            "PATCH",
            _IMAGE,
            resource.patch,
            "Change an asset",
            patch,
            body=Body,
            raw=True,
            can_respond_async=True,
        ),
        Operation(
            "DELETE", _IMAGE, resource.delete, "Delete an asset", {200: image_models.Deletion}
        ),
        Operation(
            "POST",
            f"{_IMAGE}/reingest",
            resource.reingest,
            "Ingest an asset again",
            ingest,
            can_respond_async=True,
        ),
    ]
