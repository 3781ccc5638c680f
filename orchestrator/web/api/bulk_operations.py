"""The operations of bulk changes."""

from __future__ import annotations

from orchestrator.web.api import bulk_models, request_models
from orchestrator.web.api.bulk_resource import BulkResource
from orchestrator.web.api.operations import Operation

_BULK = "/customers/{customer}/bulk"


def bulk_operations(resource: BulkResource) -> list[Operation]:
    """Return the operations of bulk changes."""
    return [
        Operation(
            "POST",
            _BULK,
            resource.post,
            "Change, ingest again or delete all assets of a selection; or count them",
            {200: bulk_models.BulkCount, 202: bulk_models.BulkOut},
            body=bulk_models.BulkIn,
        ),
        Operation(
            "GET",
            _BULK,
            resource.list_bulk,
            "List the bulk changes of a customer",
            {200: bulk_models.BulkList},
            query=request_models.BeforeQuery,
        ),
        Operation(
            "GET",
            f"{_BULK}/{{job}}",
            resource.show,
            "Show a bulk change and its progress",
            {200: bulk_models.BulkOut},
        ),
    ]
