"""The official IIIF validator against the installed command: from a PNG and from its JPEG2000,
through the built-in renderer and through iipsrv.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.rivals import iipsrv
from tests.support.running import Running, assert_log_clean, running
from tests.support.validator import IDENTIFIER, IMPOSSIBLE, validate, write_reference

pytestmark = [
    pytest.mark.timeout(300),
    # the validator leaves its sockets and files to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

VERSIONS = {"2.0": (2, 30), "3.0": (3, 33)}
"""Version of the API, and how many tests there are up to level 2."""
REFUSE = {"ORCHESTRATOR_IIIF__OVERSIZE_CONFINED": "refuse"}


@pytest.fixture(scope="module", params=["png", "jpeg2000", "jpeg2000 as it is"])
def builtin(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Our own renderer: from a PNG, from a JPEG2000, and from a JPEG2000 left as it is."""
    home: Path = tmp_path_factory.mktemp("validator")
    write_reference(home / "pictures", jpeg2000=request.param != "png")
    env = dict(REFUSE)
    if "as it is" in request.param:
        env["ORCHESTRATOR_INGEST__FOLDER_POLICY"] = "use-original"
    with running(home / "pictures", workers=2, data=home / "data", env=env) as server:
        server.wait_converted()
        yield server
    assert_log_clean(server.log())


@pytest.mark.parametrize("version", VERSIONS)
def test_every_level_passes_through_the_built_in_renderer(builtin: Running, version: str) -> None:
    number, up_to_level_2 = VERSIONS[version]
    identifier = f"1%2F1%2F{IDENTIFIER}"
    verdict = validate(f"{builtin.public}/iiif/{number}", identifier, version=version, level=3)
    assert {name: words for name, words in verdict.failed.items() if name not in IMPOSSIBLE} == {}
    levels_0_to_2 = validate(
        f"{builtin.public}/iiif/{number}", identifier, version=version, level=2
    )
    assert (len(levels_0_to_2.passed), levels_0_to_2.failed) == (up_to_level_2, {})


@pytest.mark.parametrize("version", VERSIONS)
def test_every_level_passes_in_the_customer_space_image_shape(
    builtin: Running, version: str
) -> None:
    prefix = f"{builtin.public}/iiif-img/v{VERSIONS[version][0]}/1/1"
    verdict = validate(prefix, IDENTIFIER, version=version, level=2)
    # the shape has a place for customer and space, so a raw slash makes one segment too many: 400
    assert set(verdict.failed) == {"id_error_escapedslash"}


IIPSRV_CANNOT: frozenset[str] = frozenset()
"""What iipsrv 1.1 itself cannot, and so fails through it."""


@pytest.fixture(scope="module")
def through_iipsrv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home: Path = tmp_path_factory.mktemp("validator-iipsrv")
    write_reference(home / "pictures", jpeg2000=True)
    data = home / "data"
    data.mkdir()
    with ExitStack() as stack:
        upstream = stack.enter_context(iipsrv(Path("/")))
        env = {
            **REFUSE,
            "ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original",
            "ORCHESTRATOR_IMAGE_SERVER__KIND": "iipimage",
            "ORCHESTRATOR_IMAGE_SERVER__ADDRESSES": f'["{upstream.removesuffix("/iiif/2")}"]',
        }
        server = stack.enter_context(running(home / "pictures", workers=2, data=data, env=env))
        server.wait_converted()
        yield server


@pytest.mark.parametrize("version", VERSIONS)
def test_every_level_passes_through_iipsrv_but_what_it_cannot(
    through_iipsrv: Running, version: str
) -> None:
    number = VERSIONS[version][0]
    prefix = f"{through_iipsrv.public}/iiif/{number}"
    verdict = validate(prefix, f"1%2F1%2F{IDENTIFIER}", version=version, level=2)
    assert {
        each: words for each, words in verdict.failed.items() if each not in IIPSRV_CANNOT
    } == {}
