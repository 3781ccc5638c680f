"""Handlers that show, create, change, delete and reingest assets, and the Engine's
`/asset-ingest`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from aiohttp import web

from orchestrator.catalog.accepted_requests import Check
from orchestrator.catalog.assets import Assets
from orchestrator.catalog.attempts import Attempts
from orchestrator.catalog.customers import Customers
from orchestrator.errors import AssetNotFound, InvalidInput, NotFound
from orchestrator.ingest.ingest_context import Outcome
from orchestrator.ingest.payload.decoding import change_of, decode, parse_body
from orchestrator.ingest.register import Request
from orchestrator.ingest.rights import AssetEditor
from orchestrator.ingest.sent_pictures import SentPictures
from orchestrator.model import Asset, AssetId
from orchestrator.web.api.image_models import (
    AttemptOut,
    Deletion,
    ImageOut,
    ImageShown,
    ImageTaken,
)
from orchestrator.web.api.ingest_requests import CheckedRequest, IngestRequestProcessor
from orchestrator.web.api.json_responses import check_conditions, compute_etag, json_response
from orchestrator.web.api.operations import ApiCall, read_picture
from orchestrator.web.api.request_models import PictureQuery
from orchestrator.web.api.work_models import Accepted

_NO_ORIGIN = "origin: name the address of the asset's bytes, for example https://host/image.jpg."


class ImageResource:
    """Handlers of `/customers/{c}/spaces/{s}/images/...` and of `/asset-ingest`."""

    def __init__(
        self,
        *,
        assets: Assets,
        attempts: Attempts,
        customers: Customers,
        editor: AssetEditor,
        ingest_requests: IngestRequestProcessor,
        sent: SentPictures,
    ) -> None:
        self._assets = assets
        self._attempts = attempts
        self._customers = customers
        self._editor = editor
        self._ingest_requests = ingest_requests
        self._sent = sent

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the asset and the history of its ingests."""
        asset = await self._assets.get(call.asset_id)
        if asset is None:
            raise _not_found(call.asset_id)
        attempts = [AttemptOut.model_validate(each) for each in await self._attempts.of(asset.id)]
        image = ImageOut.model_validate(asset)
        shown = ImageShown.extend(image, attempts=attempts)
        return json_response(shown, headers={"ETag": compute_etag(image)})

    async def put(self, call: ApiCall) -> web.Response:
        """Answer 201 or 200 with the asset when it is ingested; 202 with the job if the client does
        not wait.
        """
        if call.is_picture:
            return await self._put_picture(call)
        if call.request.query:
            raise InvalidInput("The query describes a picture in the body. Write it into the JSON.")
        payload = decode(call.body, asset_id=call.asset_id)
        asset = await self._current_asset(call, payload.request.id)
        if not payload.request.origin and (asset is None or not asset.origin):
            raise InvalidInput(_NO_ORIGIN)
        checked = await self._ingest_requests.check_request(payload.request, asset)
        return await self._ingest(call, checked, asset)

    async def _put_picture(self, call: ApiCall) -> web.Response:
        """Store the picture in the body, and ingest it as from any other origin."""
        query = call.query_as(PictureQuery).model_dump(by_alias=True, exclude_none=True)
        request = decode(query, asset_id=call.asset_id).request
        asset = await self._current_asset(call, request.id)
        await self._ingest_requests.check_policies(request)
        chunks, length = read_picture(call.request), call.request.content_length
        if "Content-Encoding" in call.request.headers:
            length = None  # the bytes are counted after they are decoded
        async with self._sent.keep(request.id, chunks, length) as origin:
            checked = CheckedRequest(replace(request, origin=origin), "")
            return await self._ingest(call, checked, asset)

    async def patch(self, call: ApiCall) -> web.Response:
        """Answer 200 with the changed asset. It is ingested again if the origin or a policy
        changes, or if `force` asks for it.
        """
        body, asset_id = parse_body(call.body, asset_id=call.asset_id)
        asset = await self._current_asset(call, asset_id)
        if asset is None:
            raise _not_found(asset_id)
        wanted = asset.as_requested()
        request = Request(
            asset.id,
            body.origin or wanted.origin,
            body.image_optimisation_policy or wanted.optimisation_policy,
            body.thumbnail_policy or wanted.thumbnail_policy,
            roles=body.roles,
            max_unauthorised=body.max_unauthorised,
            strings=body.all_strings(wanted.strings),
            numbers=body.all_numbers(wanted.numbers),
            tags=body.tags,
            manifests=body.manifests,
            rights=body.rights,
            force=body.force,
        )
        if not (body.force or _changes_pixels(request, wanted)):
            changed = await self._ingest_requests.update_fields(
                asset.id, partial(change_of, body), _check_of(call)
            )
            return _asset_response(changed)
        if body.origin == "" and not wanted.origin:
            raise InvalidInput(_NO_ORIGIN)
        if body.origin in ("", wanted.origin):
            request = replace(request, origin="")
        checked = await self._ingest_requests.check_request(request, asset)
        return await self._ingest(call, checked, asset)

    async def delete(self, call: ApiCall) -> web.Response:
        """Answer 200 with the number of objects and bytes that the deletion removes."""
        asset_id = call.asset_id
        deleted = await self._editor.delete(asset_id, _check_of(call))
        return json_response(
            Deletion(id=str(asset_id), objects=deleted.objects, bytes=deleted.bytes)
        )

    async def reingest(self, call: ApiCall) -> web.Response:
        """Answer 200 with the asset when it is ingested again; 202 with the job if the client does
        not wait.
        """
        asset = await self._current_asset(call, call.asset_id)
        if asset is None:
            raise _not_found(call.asset_id)
        if not call.prefers_async:
            outcome = await self._ingest_requests.reingest(asset, _check_of(call))
            return _outcome_response(outcome)
        request = Request(asset.id, "", force=True)
        checked = await self._ingest_requests.check_request(request, asset)
        return await self._submit_job(checked, _check_of(call))

    async def ingest(self, call: ApiCall) -> web.Response:
        """The Engine's endpoint: answer 200 with the asset when it is ingested, 202 with its
        job.
        """
        payload = decode(call.body, call.caller.customer)
        asset_id = payload.request.id
        call.caller.require_access(asset_id.customer)
        if not await self._customers.exists(asset_id.customer):
            raise NotFound(f"There is no customer {asset_id.customer}. Check the id.")
        asset = await self._assets.get(asset_id)
        checked = await self._ingest_requests.check_request(payload.request, asset)
        if call.prefers_async:
            return await self._submit_job(checked)
        return _outcome_response(await self._ingest_requests.ingest(checked))

    async def _ingest(
        self, call: ApiCall, checked: CheckedRequest, asset: Asset | None
    ) -> web.Response:
        check = _check_of(call)
        if call.prefers_async:
            return await self._submit_job(checked, check)
        outcome = await self._ingest_requests.ingest(checked, check)
        if asset is not None:
            return _outcome_response(outcome)
        return _outcome_response(outcome, 201, Location=call.request.rel_url.raw_path)

    async def _submit_job(
        self, checked: CheckedRequest, check: Check | None = None
    ) -> web.Response:
        job = await self._ingest_requests.submit_job(checked, check)
        return json_response(
            Accepted(job=job, image=str(checked.request.id)),
            202,
            headers={"Preference-Applied": "respond-async", "Location": f"/jobs/{job}"},
        )

    async def _current_asset(self, call: ApiCall, asset_id: AssetId) -> Asset | None:
        """Return the asset as it is now. Raises PreconditionFailed if the request's conditions do
        not allow to change it; they are checked again when the request is accepted.
        """
        asset = await self._assets.get(asset_id)
        _check_of(call)(asset)
        return asset


def _check_of(call: ApiCall) -> Check:
    """Return the check of the request's conditions. It raises PreconditionFailed."""

    def check(asset: Asset | None) -> None:
        etag = None if asset is None else compute_etag(ImageOut.model_validate(asset))
        check_conditions(call.request, etag)

    return check


def _not_found(asset_id: AssetId) -> AssetNotFound:
    return AssetNotFound(f"There is no asset {asset_id}. Check the id, or create it with PUT.")


def _changes_pixels(request: Request, asset: Asset) -> bool:
    return (request.origin, request.optimisation_policy, request.thumbnail_policy) != (
        asset.origin,
        asset.optimisation_policy,
        asset.thumbnail_policy,
    )


def _asset_response(asset: Asset) -> web.Response:
    image = ImageOut.model_validate(asset)
    return json_response(image, headers={"ETag": compute_etag(image)})


def _outcome_response(outcome: Outcome, status: int = 200, **headers: str) -> web.Response:
    image = ImageOut.model_validate(outcome.asset)
    taken = ImageTaken.extend(image, changed=outcome.changed)
    return json_response(taken, status, headers={"ETag": compute_etag(image), **headers})
