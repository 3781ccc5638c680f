"""Request and response models of customers, spaces and API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, Field

from orchestrator.ingest.payload.fields import (
    CustomerNumber,
    Fields,
    SpaceNumber,
    Text,
    whole_number,
)
from orchestrator.web.api.request_models import Paged
from orchestrator.web.api.response_model import ResponseModel

Name = Annotated[Text, Field(max_length=100)]


class CustomerIn(Fields):
    """A customer to create."""

    name: Annotated[Text, Field(min_length=1, max_length=100)]
    """Unique; image paths may have it in place of the number. Not a number, and without slashes."""
    id: CustomerNumber | None = None
    """Its number; by default the next one. The number of a deleted customer is given only to a
    request that names it.
    """


class CustomerPatch(Fields):
    """A customer's new name."""

    name: Annotated[Text, Field(min_length=1, max_length=100)]


class CustomerOut(ResponseModel):
    """A customer."""

    id: int
    name: str
    created: datetime


class CustomerList(ResponseModel):
    """All customers that the key gives access to, by number."""

    customers: list[CustomerOut]


class SpaceIn(Fields):
    """A space to create."""

    name: Name = ""
    """Unique among the spaces of the customer, or empty."""
    id: SpaceNumber | None = None
    """Its number; by default the number after the highest one."""


class SpacePatch(Fields):
    """A space's new name; empty for none."""

    name: Name


class SpacesQuery(Paged):
    """A page of the list of spaces."""

    after: Annotated[int, Field(ge=-1, le=999_999_999), BeforeValidator(whole_number)] = -1
    """The page begins after this number."""


class SpaceOut(ResponseModel):
    """A space."""

    id: int
    customer: int
    name: str
    created: datetime | None
    """null for a space that has assets, but that no request created."""


class SpaceShown(SpaceOut):
    """A space with the number of its assets."""

    images: int


class SpaceList(ResponseModel):
    """A page of spaces, by number."""

    spaces: list[SpaceOut]
    next: str | None
    """The address of the next page; null on the last one."""


class KeyIn(Fields):
    """An API key to create."""

    label: Name = ""
    """Says what the key is for."""
    admin: bool = False
    """True: the key gives access to all customers. Only an admin key can create one."""


class KeyOut(ResponseModel):
    """An API key without its secret."""

    id: str
    customer: int
    label: str
    admin: bool
    created: datetime
    revoked: datetime | None
    made_by: str
    """The id of the key that created it; "" if a command did."""


class KeyMade(ResponseModel):
    """A new API key. Its secret cannot be shown again."""

    id: str
    customer: int
    label: str
    admin: bool
    secret: str
    token: str
    """For `Authorization: Bearer`."""


class KeyList(ResponseModel):
    """The API keys of a customer, newest last."""

    keys: list[KeyOut]
