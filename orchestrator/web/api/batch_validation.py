"""Validation of a posted batch: every member is checked before anything is recorded, and one error
names the faults of all members.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.catalog.assets import Assets
from orchestrator.errors import AssetNotFound, InvalidInput
from orchestrator.ingest.payload.decoding import decode
from orchestrator.ingest.register import Request
from orchestrator.loop_turns import in_turns
from orchestrator.web.api.ingest_requests import CheckedRequest, IngestRequestProcessor


class BatchValidator:
    """Turns the body of a batch into complete ingest requests."""

    def __init__(
        self, assets: Assets, ingest_requests: IngestRequestProcessor, max_members: int
    ) -> None:
        self._assets = assets
        self._ingest_requests = ingest_requests
        self._max_members = max_members

    async def validate(self, body: Any, customer: int) -> list[CheckedRequest]:
        """Return the request of every member. Raises InvalidInput with the faults of all members if
        one has a fault.
        """
        members = read_members(body, self._max_members)
        faults: dict[int, str] = {}
        decoded = await _decode_members(members, customer, faults)
        requests = await self._check(decoded, faults)
        counts = Counter(checked.request.id for checked in requests.values())
        for index, checked in requests.items():
            if counts[checked.request.id] > 1:
                faults[index] = f"id: {checked.request.id} is in the batch more than once"
        if faults:
            lines = [f"member {index}: {faults[index]}" for index in sorted(faults)]
            raise InvalidInput(
                f"{len(lines)} of {len(members)} members have a fault, and nothing was recorded."
                f" Correct them and post the batch again. {lines[0]}",
                faults=lines,
            )
        return [requests[index] for index in sorted(requests)]

    async def _check(
        self, decoded: Mapping[int, Request], faults: dict[int, str]
    ) -> dict[int, CheckedRequest]:
        known = await self._assets.get_many(
            [request.id for request in decoded.values() if not request.origin]
        )
        requests: dict[int, CheckedRequest] = {}
        async for index, request in in_turns(decoded.items()):
            try:
                requests[index] = await self._ingest_requests.check_request(
                    request, known.get(request.id)
                )
            except (InvalidInput, AssetNotFound) as error:
                faults[index] = "; ".join(error.public.splitlines())
        return requests


async def _decode_members(
    members: Sequence[Any], customer: int, faults: dict[int, str]
) -> dict[int, Request]:
    decoded: dict[int, Request] = {}
    async for index, member in in_turns(enumerate(members)):
        try:
            decoded[index] = _decode_member(member, customer)
        except InvalidInput as error:
            faults[index] = "; ".join(error.public.splitlines())
    return decoded


def _decode_member(member: Any, customer: int) -> Request:
    if not isinstance(member, Mapping):
        raise InvalidInput("should be an object that describes one asset")
    request = decode(member, customer).request
    if request.id.customer != customer:
        raise InvalidInput(
            f"id: {request.id} belongs to another customer than the batch;"
            f" use an id of customer {customer}"
        )
    return request


def read_members(body: Any, max_members: int) -> list[Any]:
    """Return the members of a batch: the body itself if it is a list, else its property `member`,
    `members` or `images`.

    Raises InvalidInput.
    """
    if isinstance(body, Mapping):
        properties = {str(name).lower(): value for name, value in body.items()}
        names = ("member", "members", "images")
        members = next((properties[name] for name in names if name in properties), None)
    else:
        members = body
    if not isinstance(members, list):
        raise InvalidInput('Send a batch as {"member": [...]}, a list of assets.')
    if not members:
        raise InvalidInput("member: a batch needs at least one asset.")
    if len(members) > max_members:
        raise InvalidInput(
            f"member: a batch holds at most {max_members} assets. Post several batches."
        )
    return members
