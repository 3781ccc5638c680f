"""Changes how schemathesis generates requests from /openapi.json."""

from __future__ import annotations

from typing import Any

import schemathesis

_LONGEST = 200
"""Characters of a text in the query. All parameters of an operation at their documented lengths
make an address that the server refuses with 414, whatever the method.
"""


@schemathesis.hook
def before_load_schema(_context: Any, raw_schema: dict[str, Any]) -> None:
    """Shorten the texts in queries."""
    for methods in raw_schema["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                schema = parameter["schema"]
                if parameter["in"] == "query" and schema.get("maxLength", 0) > _LONGEST:
                    schema["maxLength"] = _LONGEST
