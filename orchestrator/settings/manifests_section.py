"""The settings of manifests, collections and named queries."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from orchestrator.settings.field_types import Count, Section

LABEL_TOKENS = (
    "name",
    "position",
    *(f"string{n}" for n in (1, 2, 3)),
    *(f"number{n}" for n in (1, 2, 3)),
)
METADATA_FIELDS = (*LABEL_TOKENS[2:], "tags")
_TOKEN = re.compile(r"\{([^{}]*)\}")


def _check_label(template: str) -> str:
    unknown = sorted(set(_TOKEN.findall(template)) - set(LABEL_TOKENS))
    if unknown:
        tokens = ", ".join(LABEL_TOKENS)
        raise ValueError(f"has the unknown token {{{unknown[0]}}}; the tokens are {tokens}")
    return template


def _check_metadata(labels: dict[str, str]) -> dict[str, str]:
    unknown = sorted(labels.keys() - set(METADATA_FIELDS))
    if unknown:
        fields = ", ".join(METADATA_FIELDS)
        raise ValueError(f"has the unknown field {unknown[0]}; the fields are {fields}")
    return labels


class Manifests(Section):
    """Manifests of images, named queries and collections (IIIF Presentation API)."""

    label: Annotated[str, AfterValidator(_check_label)] = "{name}"
    """Label of an image, with `{name}`, `{position}` (in its manifest, from 1), `{string1}` to
    `{string3}` and `{number1}` to `{number3}`; when the result is empty, the name.
    """
    metadata: Annotated[dict[str, str], AfterValidator(_check_metadata)] = {
        "string1": "String 1",
        "string2": "String 2",
        "string3": "String 3",
        "number1": "Number 1",
        "number2": "Number 2",
        "number3": "Number 3",
        "tags": "Tags",
    }
    """The fields of an asset that manifests show as metadata, each with its label. Empty texts and
    numbers that are 0 are left out.
    """
    page_size: Annotated[Count, Field(le=10_000)] = 1000
    """Most images of one manifest of a named query, and most members of one collection. A larger
    result is a collection of manifests of this size. Each request needs about 5 kB for each of
    them.
    """
    cache_control: str = "public, max-age=60"
    """Cache-Control of named queries and collections for clients without a token."""
