"""The one payload of ingest, however it comes: `POST /asset-ingest`, a member of a batch, a queue's
message.

`decode` is lenient in form (ids, policies, names in any case, numbers as text; properties we do not
know are ignored) and strict in meaning; all it ever raises is InvalidInput, which says what to
change. `encode` writes the form that jobs are recorded in, which `decode` reads back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from pydantic import ValidationError

from orchestrator.errors import AssetNotFound, InvalidImageRequest, InvalidInput
from orchestrator.ingest.payload.envelopes import opened
from orchestrator.ingest.payload.fields import MAX_NUMBER, Body, faults_of, whole_number
from orchestrator.ingest.register import Request
from orchestrator.model import Asset, AssetId

_WHOLE_ID = re.compile(r"\d{1,9}/\d{1,9}/.+", re.ASCII)
_ADDRESS = re.compile(
    r"/customers/(?P<customer>\d{1,9})/spaces/(?P<space>\d{1,9})/images/(?P<name>[^/?#]+)/?$",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Payload:
    """One picture to take in, and the batch its message named."""

    request: Request
    """`origin` is "" where it was not given: see `complete_request`."""
    batch: int | None = None


def decode(
    body: object,
    customer: int | None = None,
    *,
    asset_id: AssetId | None = None,
) -> Payload:
    """What a message (bytes or text), or what was parsed of one, asks for.

    `customer` is whose it is unless the body says so itself; `asset_id` is the image of the
    address the body was sent to, which the body may repeat, not contradict. Raises InvalidInput
    with every fault, one a line.
    """
    given, found = parse_body(body, customer, asset_id=asset_id)
    return Payload(_request(given, found), _positive(given.batch_id))


def parse_body(
    body: object,
    customer: int | None = None,
    *,
    asset_id: AssetId | None = None,
) -> tuple[Body, AssetId]:
    """What is stated of which image, for whoever must tell what is stated from what is not.

    Raises InvalidInput as `decode`.
    """
    value = opened(body)
    wrong: list[str] = []
    try:
        given = Body.model_validate(value)
        owner = customer if asset_id is None else asset_id.customer
        return given, _id_of(given, owner, asset_id)
    except ValidationError as error:
        wrong += faults_of(error)
    except (InvalidInput, InvalidImageRequest) as error:
        wrong.append(f"id: {error.public}")
    raise InvalidInput("\n".join(wrong))


def encode(payload: Payload) -> dict[str, Any]:
    """The payload as JSON that `decode` reads back as the very same; what is not given is left
    out.
    """
    request = payload.request
    written = {
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
        "strings": _list(request.strings),
        "numbers": _list(request.numbers),
        "rights": request.rights,
        "force": request.force or None,
        "batchId": payload.batch,
    }
    return {name: value for name, value in written.items() if value is not None}


def complete_request(request: Request, known: Asset | None) -> Request:
    """The request with the origin, and then the policies, of the known image where it names none.

    Raises AssetNotFound when nobody knows where its bytes are.
    """
    if request.origin:
        return request
    if known is None or not known.origin:
        raise AssetNotFound(
            f"There is no image {request.id}, and no origin to take it from was given."
        )
    return replace(
        request,
        origin=known.origin,
        optimisation_policy=request.optimisation_policy or known.optimisation_policy,
        thumbnail_policy=request.thumbnail_policy or known.thumbnail_policy,
    )


def _id_of(body: Body, customer: int | None, address: AssetId | None) -> AssetId:
    found = _named_id(body, customer, address)
    if address is not None and found != address:
        raise InvalidInput("the body names another image than the address does.")
    return found


def _named_id(body: Body, customer: int | None, address: AssetId | None) -> AssetId:
    if body.id is None:
        if address is None:
            raise InvalidInput("should name the image: customer/space/name, or a name and `space`.")
        beside = (body.customer, address.customer), (body.space, address.space)
        if any(given is not None and given != meant for given, meant in beside):
            raise InvalidInput("the body names another customer or space than the address does.")
        return address
    if isinstance(body.id, Mapping):
        return _of_object(body, customer)
    if not isinstance(body.id, str):
        raise InvalidInput("should be a text or an object {customer, space, asset}.")
    whole = _whole_id(body.id)
    if whole is None:
        space = body.space if address is None or body.space is not None else address.space
        return _together(body.customer or customer, space, body.id)
    stated = (body.customer, whole.customer), (body.space, whole.space)
    if any(given is not None and given != meant for given, meant in stated):
        raise InvalidInput(
            "names another customer or space than stand beside it; a name with slashes"
            " can be written {customer, space, asset}."
        )
    return whole


def _whole_id(text: str) -> AssetId | None:
    """The id that says all by itself: `customer/space/name`, or the image's address in the API."""
    if "://" in text or text.startswith("/"):
        found = _ADDRESS.search(text)
        if found is None:
            return None
        return AssetId(int(found["customer"]), int(found["space"]), unquote(found["name"]))
    return AssetId.parse(text) if _WHOLE_ID.fullmatch(text) else None


def _of_object(body: Body, customer: int | None) -> AssetId:
    names: dict[str, Any] = {str(name).lower(): value for name, value in body.id.items()}
    parts: list[int | None] = []
    for part, beside in (("customer", body.customer), ("space", body.space)):
        value = _number(names.get(part), part)
        if value is not None and beside is not None and value != beside:
            raise InvalidInput(f"its {part} is not the one that stands beside it.")
        parts.append(beside if value is None else value)
    name = next((names[each] for each in ("asset", "image", "name") if names.get(each)), None)
    return _together(parts[0] or customer, parts[1], name)


def _number(given: object, part: str) -> int | None:
    if given is None:
        return None
    value = None if isinstance(given, bool) else whole_number(given)
    if not isinstance(value, int) or not 0 <= value <= MAX_NUMBER:
        raise InvalidInput(f"its {part} should be a whole number of up to nine digits.")
    return value


def _together(customer: int | None, space: int | None, name: object) -> AssetId:
    if space is None:
        raise InvalidInput("which space the image is in is not said: give `space`.")
    if not customer:
        raise InvalidInput("whose image it is, is not said: give `customer`.")
    if not isinstance(name, str) or not name:
        raise InvalidInput("has no name: give `asset`.")
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
        rights=body.rights,
        force=body.force,
    )


def _positive(batch: int | None) -> int | None:
    return batch if batch is not None and batch > 0 else None


def _list(values: Sequence[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)
