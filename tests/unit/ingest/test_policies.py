"""Named policies."""

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.ingest.policies import Policies, check_sizes
from orchestrator.model import SourceKind
from orchestrator.settings import Ingest


def test_the_defaults_come_from_the_settings() -> None:
    policies = Policies(Ingest(optimisation_policy="fast-lossy", folder_policy="fastest"))
    assert policies.optimisation("").name == "fast-lossy"
    assert policies.folder.name == "fastest"
    assert policies.thumbnails("").sizes == (1000, 400, 200, 100)


def test_without_a_folder_policy_folders_take_the_general_one() -> None:
    assert Policies(Ingest(folder_policy="")).folder.name == "fast-lossy"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("fastest", SourceKind.PYRAMID_TIFF), ("fast-lossy", SourceKind.JPEG2000)],
)
def test_a_policy_says_what_file_is_made(name: str, kind: SourceKind) -> None:
    conversion = Policies(Ingest()).optimisation(name).conversion
    assert conversion is not None
    assert conversion.kind is kind


def test_use_original_makes_no_file() -> None:
    assert Policies(Ingest()).optimisation("use-original").conversion is None


def test_a_policy_can_be_named_by_its_address() -> None:
    policies = Policies(Ingest(), {"museum": (800, "!300,200")})
    address = "https://my.dlcs/imageOptimisationPolicies/fastest"
    assert policies.optimisation(address).name == "fastest"
    assert policies.thumbnails("https://my.dlcs/thumbnailPolicies/museum/").sizes == (
        800,
        "!300,200",
    )


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    policies = Policies(Ingest())
    with pytest.raises(InvalidInput, match=r"'best'.*fast-lossy, fastest, use-original"):
        policies.optimisation("best")
    with pytest.raises(InvalidInput, match=r"'museum'.*default"):
        policies.thumbnails("museum")
    with pytest.raises(InvalidInput, match="optimisation"):
        Policies(Ingest(optimisation_policy="best"))


@pytest.mark.parametrize(
    "size", ["400,", ",400", "!400,300", "^400,", "^,400", "^!400,300", 1, 999]
)
def test_a_size_a_policy_can_hold(size: int | str) -> None:
    assert check_sizes((size,)) == (size,)


@pytest.mark.parametrize(
    "size",
    ["max", "^max", "pct:50", "400,300", "^400,300", "", ",", "0,", 0, -1, 10**6, "!0,5", "a,"],
)
def test_a_size_a_policy_cannot_hold_is_named(size: int | str) -> None:
    with pytest.raises(InvalidInput, match="thumbnail size"):
        check_sizes((size,))


def test_a_policy_needs_a_size() -> None:
    with pytest.raises(InvalidInput, match="at least one"):
        check_sizes(())
