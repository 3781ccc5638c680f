"""Decodes the ingest payload, which has the same form in `POST /asset-ingest`, in a batch and in a
queue message.

`decode` accepts many forms: names in any case, numbers as text, unknown properties (ignored). It
raises nothing but InvalidInput, which says what to change. `encode` writes the form that jobs are
recorded in, which `decode` reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from pydantic import ValidationError

from orchestrator.catalog.asset_edits import AssetChange
from orchestrator.errors import AssetNotFound, InvalidImageRequest, InvalidInput
from orchestrator.ingest.payload.envelopes import unwrap
from orchestrator.ingest.payload.fields import MAX_NUMBER, Body, Metadata, faults_of, whole_number
from orchestrator.ingest.register import Request
from orchestrator.model import Asset, AssetId

_WHOLE_ID = re.compile(r"\d{1,9}/\d{1,9}/.+", re.ASCII)
_ADDRESS = re.compile(
    r"/customers/(?P<customer>\d{1,9})/spaces/(?P<space>\d{1,9})/images/(?P<name>[^/?#]+)/?$",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Payload:
    """One asset to ingest, and the batch that the message named."""

    request: Request
    """`origin` is "" if it was not given; see `complete_request`."""
    batch: int | None = None


def decode(
    body: object,
    customer: int | None = None,
    *,
    asset_id: AssetId | None = None,
) -> Payload:
    """Return what a message asks for, given as bytes, text or parsed JSON.

    `customer` owns the asset unless the body names a customer. `asset_id` is the asset in the URL
    that the body was sent to; the body may repeat it but not contradict it. Raises InvalidInput
    with every fault, one per line.
    """
    fields, found_id = parse_body(body, customer, asset_id=asset_id)
    return Payload(_request(fields, found_id), _positive(fields.batch_id))


def parse_body(
    body: object,
    customer: int | None = None,
    *,
    asset_id: AssetId | None = None,
) -> tuple[Body, AssetId]:
    """Return the properties of a body, None for those that are not in it, and its asset.

    Raises InvalidInput as `decode`.
    """
    value = unwrap(body)
    try:
        fields = Body.model_validate(value)
        owner = customer if asset_id is None else asset_id.customer
        return fields, _asset_id(fields, owner, asset_id)
    except ValidationError as error:
        raise InvalidInput("\n".join(faults_of(error))) from error
    except (InvalidInput, InvalidImageRequest) as error:
        raise InvalidInput(f"id: {error.public}") from error


def encode(payload: Payload) -> dict[str, Any]:
    """Return the payload as JSON that `decode` reads as an equal payload. Properties that were not
    given are left out.
    """
    request = payload.request
    properties = {
        "id": {
            "customer": request.id.customer,
            "space": request.id.space,
            "asset": request.id.name,
        },
        "origin": request.origin or None,
        "imageOptimisationPolicy": request.optimisation_policy or None,
        "thumbnailPolicy": request.thumbnail_policy or None,
        "roles": _list(request.roles),
        "maxUnauthorised": request.max_unauthorised,
        "tags": _list(request.tags),
        "manifests": _list(request.manifests),
        "strings": _list(request.strings),
        "numbers": _list(request.numbers),
        "rights": request.rights,
        "force": request.force or None,
        "batchId": payload.batch,
    }
    return {name: value for name, value in properties.items() if value is not None}


def change_of(fields: Metadata, asset: Asset) -> AssetChange:
    """Return the change that the properties ask for. A string or number that is not given stays
    as the asset has it, or will have it after its accepted ingest.
    """
    wanted = asset.as_requested()
    return AssetChange(
        fields.roles,
        fields.max_unauthorised,
        fields.all_strings(wanted.strings),
        fields.all_numbers(wanted.numbers),
        fields.tags,
        fields.manifests,
        fields.rights,
    )


def complete_request(request: Request, known: Asset | None) -> Request:
    """Return the request. If it names no origin, it gets the origin and the policies of the known
    asset.

    Raises AssetNotFound if there is no known asset with an origin.
    """
    if request.origin:
        return request
    if known is None or not known.origin:
        raise AssetNotFound(
            f"There is no asset {request.id}. Give `origin`, the address of its bytes."
        )
    return replace(
        request,
        origin=known.origin,
        optimisation_policy=request.optimisation_policy or known.optimisation_policy,
        thumbnail_policy=request.thumbnail_policy or known.thumbnail_policy,
    )


def _asset_id(body: Body, customer: int | None, url_id: AssetId | None) -> AssetId:
    body_id = _body_id(body, customer, url_id)
    if url_id is not None and body_id != url_id:
        raise InvalidInput("the body names another asset than the URL.")
    return body_id


def _body_id(body: Body, customer: int | None, url_id: AssetId | None) -> AssetId:
    if body.id is None:
        if url_id is None:
            raise InvalidInput("give customer/space/name, or a name and `space`.")
        if _contradicts(body, url_id):
            raise InvalidInput("the body names another customer or space than the URL.")
        return url_id
    if isinstance(body.id, Mapping):
        return _id_of_object(body, customer)
    if not isinstance(body.id, str):
        raise InvalidInput("must be a text or an object {customer, space, asset}.")
    full_id = _parse_full_id(body.id)
    if full_id is None:
        space = body.space if url_id is None or body.space is not None else url_id.space
        return _build_id(body.customer or customer, space, body.id)
    if _contradicts(body, full_id):
        raise InvalidInput(
            "names another customer or space than `customer` and `space`. Write a name with slashes"
            " as {customer, space, asset}."
        )
    return full_id


def _contradicts(body: Body, asset_id: AssetId) -> bool:
    """Return whether `customer` or `space` of the body are others than those of the id."""
    return body.customer not in (None, asset_id.customer) or body.space not in (
        None,
        asset_id.space,
    )


def _parse_full_id(text: str) -> AssetId | None:
    """Return the asset of `customer/space/name` or of an asset's URL in the API; None for a name
    alone.
    """
    if "://" in text or text.startswith("/"):
        match = _ADDRESS.search(text)
        if match is None:
            return None
        return AssetId(int(match["customer"]), int(match["space"]), unquote(match["name"]))
    return AssetId.parse(text) if _WHOLE_ID.fullmatch(text) else None


def _id_of_object(body: Body, customer: int | None) -> AssetId:
    names: dict[str, Any] = {str(name).lower(): value for name, value in body.id.items()}
    parts: list[int | None] = []
    for part, property_value in (("customer", body.customer), ("space", body.space)):
        value = _parse_number(names.get(part), part)
        if value is not None and property_value is not None and value != property_value:
            raise InvalidInput(f"its {part} is not the `{part}` of the body.")
        parts.append(property_value if value is None else value)
    name = next((names[each] for each in ("asset", "image", "name") if names.get(each)), None)
    return _build_id(parts[0] or customer, parts[1], name)


def _parse_number(value: object, part: str) -> int | None:
    if value is None:
        return None
    number = None if isinstance(value, bool) else whole_number(value)
    if not isinstance(number, int) or not 0 <= number <= MAX_NUMBER:
        raise InvalidInput(f"its {part} must be a whole number of up to nine digits.")
    return number


def _build_id(customer: int | None, space: int | None, name: object) -> AssetId:
    if space is None:
        raise InvalidInput("the space of the asset is missing. Give `space`.")
    if not customer:
        raise InvalidInput("the customer of the asset is missing. Give `customer`.")
    if not isinstance(name, str) or not name:
        raise InvalidInput("has no name. Give `asset`.")
    return AssetId(customer, space, name)


def _request(body: Body, asset_id: AssetId) -> Request:
    return Request(
        asset_id,
        body.origin,
        body.image_optimisation_policy,
        body.thumbnail_policy,
        roles=body.roles,
        max_unauthorised=body.max_unauthorised,
        strings=body.all_strings(),
        numbers=body.all_numbers(),
        tags=body.tags,
        manifests=body.manifests,
        rights=body.rights,
        force=body.force,
    )


def _positive(batch: int | None) -> int | None:
    return batch if batch is not None and batch > 0 else None


def _list(values: Sequence[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)
