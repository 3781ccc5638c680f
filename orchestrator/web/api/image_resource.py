"""Images: shown, listed, put, changed, deleted, taken in again; and the Engine's own
`/asset-ingest`.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote, urlencode

from aiohttp import web

from orchestrator.catalog.assets import Assets
from orchestrator.catalog.attempts import Attempts
from orchestrator.catalog.customers import Customers
from orchestrator.errors import AssetNotFound, InvalidInput, NotFound
from orchestrator.ingest.payload.decoding import Payload, decode, stated
from orchestrator.ingest.pipeline import Outcome, Pipeline
from orchestrator.ingest.register import Request
from orchestrator.model import Asset, AssetId
from orchestrator.web.api.image_models import (
    AttemptOut,
    Deletion,
    ImageOut,
    Images,
    ImageShown,
    ImageTaken,
)
from orchestrator.web.api.ingest_requests import IngestRequestProcessor
from orchestrator.web.api.json_responses import answer, check_conditions, etag_of
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.request_models import AfterQuery
from orchestrator.web.api.work_models import Accepted

ASYNC = {"Preference-Applied": "respond-async"}


class ImageResource:
    """Handlers of `/customers/{c}/spaces/{s}/images/...` and of `/asset-ingest`."""

    def __init__(
        self,
        *,
        assets: Assets,
        attempts: Attempts,
        customers: Customers,
        pipeline: Pipeline,
        intake: IngestRequestProcessor,
    ) -> None:
        self._assets = assets
        self._attempts = attempts
        self._customers = customers
        self._pipeline = pipeline
        self._intake = intake

    async def show(self, call: ApiCall) -> web.Response:
        """200 with the image and the history of its ingests."""
        asset = await self._known(call.asset_id)
        attempts = [AttemptOut.model_validate(each) for each in await self._attempts.of(asset.id)]
        image = ImageOut.model_validate(asset)
        shown = ImageShown.extend(image, attempts=attempts)
        return answer(shown, headers={"ETag": etag_of(image)})

    async def page(self, call: ApiCall) -> web.Response:
        """200 with the images of a space, by name."""
        query = call.asked(AfterQuery)
        space = call.number("space")
        after = _behind(call.customer, space, query.after)
        found = await self._assets.page(after, query.limit + 1, customer=call.customer, space=space)
        images = found[: query.limit]
        following = None
        if len(found) > query.limit:
            words = urlencode({"after": images[-1].id.name, "limit": query.limit}, quote_via=quote)
            following = f"/customers/{call.customer}/spaces/{space}/images?{words}"
        listed = [ImageOut.model_validate(asset) for asset in images]
        return answer(Images(images=listed, next=following))

    async def put(self, call: ApiCall) -> web.Response:
        """201 or 200 with the image once it is taken in; 202 with its job where the client would
        not wait.
        """
        payload = decode(call.body, asset_id=call.asset_id)
        asset = await self._current(call, payload.request.id)
        if not payload.request.origin and (asset is None or not asset.origin):
            raise InvalidInput("origin: say where the image is to be taken from.")
        request = await self._intake.admit(payload.request, asset)
        return await self._taken(call, replace(payload, request=request), asset)

    async def patch(self, call: ApiCall) -> web.Response:
        """200 with the image as it now is: described anew, and taken in again where its origin or a
        policy is another one.
        """
        given, asset_id = stated(call.body, asset_id=call.asset_id)
        asset = await self._current(call, asset_id)
        if asset is None:
            raise _unknown(asset_id)
        request = Request(
            asset.id,
            given.origin or asset.origin,
            given.image_optimisation_policy or asset.optimisation_policy,
            given.thumbnail_policy or asset.thumbnail_policy,
            roles=given.roles,
            max_unauthorised=given.max_unauthorised,
            strings=given.all_strings(asset.strings),
            numbers=given.all_numbers(asset.numbers),
            tags=given.tags,
            rights=given.rights,
            force=given.force,
        )
        if not (given.force or _has_other_pixels(request, asset)):
            after = await self._intake.describe(request, asset)
            return _shown(after)
        if given.origin == "" and not asset.origin:
            raise InvalidInput("origin: say where the image is to be taken from.")
        named = given.origin not in ("", asset.origin)
        admitted = await self._intake.admit(
            request if named else replace(request, origin=""), asset
        )
        return await self._taken(call, Payload(admitted), asset)

    async def delete(self, call: ApiCall) -> web.Response:
        """200 with what the deletion did."""
        asset_id = call.asset_id
        await self._current(call, asset_id)
        deleted = await self._pipeline.delete(asset_id)
        return answer(Deletion(id=str(asset_id), objects=deleted.objects, bytes=deleted.bytes))

    async def reingest(self, call: ApiCall) -> web.Response:
        """200 with the image once its origin is taken in again; 202 with the job."""
        asset = await self._current(call, call.asset_id)
        if asset is None:
            raise _unknown(call.asset_id)
        if not call.wants_no_wait:
            return _said(await self._intake.again(asset.id))
        request = await self._intake.admit(Request(asset.id, "", force=True), asset)
        return await self._later(Payload(request))

    async def ingest(self, call: ApiCall) -> web.Response:
        """The Engine's one endpoint: 200 with the image once it is taken in, 202 with its job."""
        payload = decode(call.body, call.caller.customer)
        asset_id = payload.request.id
        call.caller.check(asset_id.customer)
        if not await self._customers.exists(asset_id.customer):
            raise NotFound(f"There is no customer {asset_id.customer}.")
        asset = await self._assets.get(asset_id)
        request = await self._intake.admit(payload.request, asset)
        if call.wants_no_wait:
            return await self._later(replace(payload, request=request))
        return _said(await self._intake.now(request, asset))

    async def _taken(self, call: ApiCall, payload: Payload, asset: Asset | None) -> web.Response:
        if call.wants_no_wait:
            return await self._later(payload)
        outcome = await self._intake.now(payload.request, asset)
        if asset is not None:
            return _said(outcome)
        return _said(outcome, 201, Location=call.request.rel_url.raw_path)

    async def _later(self, payload: Payload) -> web.Response:
        recorded = await self._intake.later(
            [payload], customer=payload.request.id.customer, lane="normal", as_batch=False
        )
        job = recorded.ids[0]
        accepted = Accepted(job=job, image=str(payload.request.id))
        return answer(accepted, 202, headers={**ASYNC, "Location": f"/jobs/{job}"})

    async def _current(self, call: ApiCall, asset_id: AssetId) -> Asset | None:
        """The asset as it is now, if the request's conditions allow to change it."""
        asset = await self._assets.get(asset_id)
        check_conditions(
            call.request, None if asset is None else etag_of(ImageOut.model_validate(asset))
        )
        return asset

    async def _known(self, asset_id: AssetId) -> Asset:
        asset = await self._assets.get(asset_id)
        if asset is None:
            raise _unknown(asset_id)
        return asset


def _unknown(asset_id: AssetId) -> AssetNotFound:
    return AssetNotFound(f"There is no image {asset_id}.")


def _has_other_pixels(request: Request, asset: Asset) -> bool:
    return (request.origin, request.optimisation_policy, request.thumbnail_policy) != (
        asset.origin,
        asset.optimisation_policy,
        asset.thumbnail_policy,
    )


def _shown(asset: Asset) -> web.Response:
    shown = ImageOut.model_validate(asset)
    return answer(shown, headers={"ETag": etag_of(shown)})


def _said(outcome: Outcome, status: int = 200, **headers: str) -> web.Response:
    image = ImageOut.model_validate(outcome.asset)
    taken = ImageTaken.extend(image, changed=outcome.changed)
    return answer(taken, status, headers={"ETag": etag_of(image), **headers})


def _behind(customer: int, space: int, name: str) -> AssetId | None:
    """Where a page begins; it need not be the name of an image there is."""
    return AssetId(customer, space, name) if name else None
