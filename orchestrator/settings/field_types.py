"""The types of settings: amounts of bytes, seconds, ports, counts; and the base of all sections."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_UNITS |= {"ki": 1024, "mi": 1024**2, "gi": 1024**3, "ti": 1024**4}


def parse_bytes(value: object) -> object:
    """The number of bytes in a text such as `500 MB` or `2GiB`. Other values are returned
    unchanged, for the validator. Raises ValueError.
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", value, re.IGNORECASE)
    if match is None:
        raise ValueError("should be an amount of bytes such as 500MB or 2GiB")
    unit = match[2].lower()
    if unit not in _UNITS:
        raise ValueError("should be an amount of bytes such as 500MB or 2GiB")
    return int(float(match[1]) * _UNITS[unit])


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of all sections: rejects unknown names, and never changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
