"""The corpus of bad URLs: what needs no look-up is refused by the pure package alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import InvalidImageRequest, NotFound
from orchestrator.iiif.geometry import resolve
from orchestrator.iiif.paths import parse_path
from orchestrator.iiif.syntax import parse_image_request
from tests.unit.iiif.asking import IMAGE, LIMITS

CORPUS = Path(__file__).parents[2] / "corpus" / "bad_urls.txt"
LINES = [
    line.split("\t", 1)
    for line in CORPUS.read_text(encoding="ascii").splitlines()
    if line and not line.startswith("#")
]


def answer(target: str) -> str:
    """The identifier to look up. Raises what the package refuses for the sample image."""
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
        answer(target)
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
def test_what_is_not_found_is_no_route_or_another_image(target: str) -> None:
    try:
        identifier = answer(target)
    except NotFound:
        return
    assert identifier != "1/1/sample"
