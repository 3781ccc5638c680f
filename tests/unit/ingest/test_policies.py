"""Named policies and the definitions of stored ones."""

from typing import Any

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.imaging import POLICIES
from orchestrator.ingest.policies import Policies
from orchestrator.ingest.policy_definitions import check_name, check_sizes, conversion_of, sizes_of
from orchestrator.model import SourceKind
from orchestrator.settings import Ingest


async def test_the_defaults_come_from_the_settings() -> None:
    policies = Policies(Ingest(optimisation_policy="fast-lossy", folder_policy="fastest"))
    assert (await policies.optimisation(1, "")).name == "fast-lossy"
    assert (await policies.folder(1)).name == "fastest"
    assert (await policies.thumbnails(1, "")).sizes == (1000, 400, 200, 100)


async def test_without_a_folder_policy_the_general_policy_is_used_for_folders() -> None:
    assert (await Policies(Ingest(folder_policy="")).folder(1)).name == "fast-lossy"


@pytest.mark.parametrize(
    ("name", "kind", "lossless"),
    [
        ("fastest", SourceKind.PYRAMID_TIFF, False),
        ("fast-lossy", SourceKind.JPEG2000, False),
        ("fast-higher", SourceKind.JPEG2000, False),
        ("max-quality", SourceKind.JPEG2000, True),
    ],
)
async def test_a_policy_decides_the_kind_of_the_source(
    name: str, kind: SourceKind, lossless: bool
) -> None:
    conversion = (await Policies(Ingest()).optimisation(1, name)).conversion
    assert conversion is not None
    assert (conversion.kind, conversion.lossless) == (kind, lossless)


async def test_use_original_makes_no_source() -> None:
    assert (await Policies(Ingest()).optimisation(1, "use-original")).conversion is None


async def test_a_policy_can_be_named_by_its_url() -> None:
    policies = Policies(Ingest())
    address = "https://my.dlcs/imageOptimisationPolicies/fastest"
    assert (await policies.optimisation(1, address)).name == "fastest"
    address = "https://my.dlcs/thumbnailPolicies/default/"
    assert (await policies.thumbnails(1, address)).name == "default"


async def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    policies = Policies(Ingest())
    with pytest.raises(InvalidInput, match=r"'best'.*fast-lossy, fastest, max-quality, use-orig"):
        await policies.optimisation(1, "best")
    with pytest.raises(InvalidInput, match=r"'museum'.*default"):
        await policies.thumbnails(1, "museum")
    with pytest.raises(InvalidInput, match="optimisation"):
        await Policies(Ingest(optimisation_policy="best")).optimisation(1, "")


async def test_every_built_in_policy_is_what_its_definition_says() -> None:
    for entry in await Policies(Ingest()).list("optimisation", 1):
        assert entry.customer is None
        assert conversion_of(entry.name, entry.definition) == POLICIES.get(entry.name)


async def test_a_preview_shows_the_thumbnails_of_a_picture() -> None:
    policies = Policies(Ingest(thumbnail_policy=["!400,200", 100]))
    assert await policies.preview(1, "", 1000, 900) == [(222, 200), (100, 90)]
    for width, height in ((0, 10), (10, 0), (10**7, 10)):
        with pytest.raises(InvalidInput, match="from 1 to"):
            await policies.preview(1, "", width, height)


@pytest.mark.parametrize(
    "size", ["400,", ",400", "!400,300", "^400,", "^,400", "^!400,300", 1, 999]
)
def test_a_valid_thumbnail_size_is_accepted(size: int | str) -> None:
    assert check_sizes((size,)) == (size,)
    assert sizes_of({"sizes": [size]}) == (size,)


@pytest.mark.parametrize(
    "size",
    ["max", "^max", "pct:50", "400,300", "^400,300", "", ",", "0,", 0, -1, 10**6, "!0,5", "a,"],
)
def test_an_invalid_thumbnail_size_is_named(size: int | str) -> None:
    with pytest.raises(InvalidInput, match="thumbnail size"):
        check_sizes((size,))


def test_a_thumbnail_policy_has_at_least_one_size_and_not_too_many() -> None:
    with pytest.raises(InvalidInput, match="at least one"):
        check_sizes(())
    with pytest.raises(InvalidInput, match="at most 32"):
        check_sizes(tuple(range(1, 34)))


@pytest.mark.parametrize(
    "definition",
    [{}, {"sizes": "100,"}, {"sizes": [True]}, {"sizes": [1.5]}, {"sizes": [[100]]},
     {"sizes": [100], "other": 1}],
    ids=str,
)  # fmt: skip
def test_an_invalid_thumbnail_policy_is_refused(definition: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        sizes_of(definition)


@pytest.mark.parametrize(
    ("definition", "psnr", "lossless", "tile"),
    [
        ({}, POLICIES["fast-lossy"].psnr, False, POLICIES["fast-lossy"].tile),
        ({"quality": 80}, 45, False, POLICIES["fast-lossy"].tile),
        ({"psnr": 38, "tile": 1024}, 38, False, 1024),
        ({"lossless": True, "tile": 0}, 0, True, 0),
    ],
    ids=str,
)
def test_a_jpeg2000_policy_sets_the_options_of_the_encoder(
    definition: dict[str, Any], psnr: float, lossless: bool, tile: int
) -> None:
    made = conversion_of("ours", {"format": "jpeg2000", **definition})
    assert made is not None
    assert (made.name, made.extension) == ("ours", "jp2")
    assert (made.psnr, made.lossless, made.tile) == (psnr, lossless, tile)


def test_a_tiff_policy_sets_the_options_of_the_encoder() -> None:
    made = conversion_of("ours", {"format": "tiff", "quality": 70, "tile": 512})
    assert made is not None
    assert (made.extension, made.quality, made.tile, made.lossless) == ("tif", 70, 512, False)
    assert conversion_of("ours", {"format": "original"}) is None


@pytest.mark.parametrize(
    "definition",
    [
        {},
        {"format": "png"},
        {"format": "jpeg2000", "quality": 0},
        {"format": "jpeg2000", "quality": 101},
        {"format": "jpeg2000", "quality": True},
        {"format": "jpeg2000", "psnr": 45, "quality": 80},
        {"format": "jpeg2000", "lossless": True, "psnr": 45},
        {"format": "jpeg2000", "lossless": "yes"},
        {"format": "jpeg2000", "tile": 100},
        {"format": "jpeg2000", "tile": []},
        {"format": "jpeg2000", "speed": 1},
        {"format": "tiff", "tile": 0},
        {"format": "tiff", "psnr": 45},
        {"format": "original", "quality": 80},
        {"format": ["tiff"]},
    ],
    ids=str,
)
def test_an_invalid_optimisation_policy_is_refused(definition: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        conversion_of("ours", definition)


@pytest.mark.parametrize("name", ["", ".", "a/b", "a b", "ü", "a" * 101, "a\n", "-a"])
def test_a_policy_name_that_cannot_end_a_url_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        check_name(name)
