"""docs/policies.md has measurements of every built-in policy, and of no other."""

import re
from pathlib import Path

from orchestrator.ingest.policies import Policies
from orchestrator.settings import Ingest

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"


async def test_the_page_has_a_row_of_measurements_for_every_built_in_policy() -> None:
    text = PAGE.read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \|((?: [0-9.]+ \|){4})$", text, re.MULTILINE)
    built_in = {entry.name for entry in await Policies(Ingest()).list("optimisation", 1)}
    assert {name for name, _ in rows} == built_in
    assert len(rows) == len(built_in)
    for name in built_in:
        assert f"- `{name}`: " in text
