"""The corpus of bad URLs: a request that needs no look-up is refused without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import InvalidImageRequest, NotFound
from orchestrator.iiif.geometry import resolve
from orchestrator.iiif.paths import parse_path
from orchestrator.iiif.syntax import parse_image_request
from tests.unit.iiif.resolving import IMAGE, LIMITS

CORPUS = Path(__file__).parents[2] / "corpus" / "bad_urls.txt"
LINES = [
    line.split("\t", 1)
    for line in CORPUS.read_text(encoding="ascii").splitlines()
    if line and not line.startswith("#")
]


def parse_target(target: str) -> str:
    """The identifier to look up. Raises InvalidImageRequest, NotFound for the sample image."""
    path = parse_path(target)
    if len(path.rest) == 4:
        resolve(parse_image_request(path.rest, path.version or 3), IMAGE, LIMITS)
    return path.identifier


def test_the_corpus_has_at_least_520_distinct_targets_of_two_kinds() -> None:
    targets = [target for _, target in LINES]
    assert len(targets) == len(set(targets)) >= 520
    assert {status for status, _ in LINES} == {"400", "404"}


@pytest.mark.parametrize(
    "target", [t for status, t in LINES if status == "400"], ids=lambda t: t[:120]
)
def test_a_bad_request_is_refused_without_any_look_up(target: str) -> None:
    with pytest.raises(InvalidImageRequest) as refused:
        parse_target(target)
    assert refused.value.parameter in (
        "path",
        "version",
        "identifier",
        "region",
        "size",
        "rotation",
        "quality",
        "format",
    )
    assert 0 < len(refused.value.public) < 250


@pytest.mark.parametrize("target", [t for status, t in LINES if status == "404"])
def test_a_target_with_status_404_is_no_route_or_names_another_image(target: str) -> None:
    try:
        identifier = parse_target(target)
    except NotFound:
        return
    assert identifier != "1/1/sample"
