"""Request and response models of named queries."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from orchestrator.ingest.payload.fields import Fields, Text, clean_text
from orchestrator.manifests.query_template import MAX_TEMPLATE_CHARS
from orchestrator.web.api.image_models import ImageOut
from orchestrator.web.api.request_models import Paged
from orchestrator.web.api.response_model import ResponseModel

MAX_NAME_CHARS = 100


def check_query_name(name: str) -> str:
    """The name. Raises ValueError if no path can have it."""
    if not name or len(name) > MAX_NAME_CHARS or re.search(r"[/\\]", name) or name in (".", ".."):
        raise ValueError(f"must be 1 to {MAX_NAME_CHARS} characters, without slashes")
    return name


QueryName = Annotated[Text, AfterValidator(check_query_name)]
Template = Annotated[str, Field(max_length=MAX_TEMPLATE_CHARS), AfterValidator(clean_text)]


class NamedQueryTemplate(Fields):
    """The template of a named query."""

    template: Template
    """`key=value` pairs, joined by `&` (docs/manifests.md)."""


class NamedQueryIn(NamedQueryTemplate):
    """A named query."""

    name: QueryName
    """The name in the path of a request."""


class MatchesQuery(Paged):
    """The arguments of a dry run, and the page that is shown."""

    args: str = ""
    """The arguments as they are in the path of a request, separated by /."""
    after: Text | None = None
    """Where the page begins: a value of `next` of the page before."""


class NamedQueryOut(ResponseModel):
    """A stored named query."""

    customer: int
    """The customer that it belongs to; 0: it belongs to all."""
    name: str
    template: str
    created: datetime
    updated: datetime


class NamedQueryList(ResponseModel):
    """The named queries that requests of a customer can name, by name."""

    named_queries: list[NamedQueryOut]


class MatchesOut(ResponseModel):
    """What a named query selects with these arguments, regardless of rights."""

    name: str
    template: str
    arguments: list[str]
    count: int
    """The number of all images."""
    images: list[ImageOut]
    """A page of them, in the order of the query."""
    next: str | None
    """The value of `after` for the next page; null on the last one."""
