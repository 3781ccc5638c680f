"""The error table has a line for every error there is."""

import importlib
import json
import logging
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

import orchestrator
from orchestrator.errors import (
    Damaged,
    DecodeFailed,
    DecodeTimeout,
    ImageServerUnavailable,
    InvalidImageRequest,
    InvalidInput,
    NotAnImage,
    OrchestratorError,
    OriginUnavailable,
    Overloaded,
    OverQuota,
    OversizeImage,
    Superseded,
    TooLarge,
    TooManyRequests,
    Unprocessable,
    Unsupported,
    fault_of,
)
from orchestrator.web.error_table import (
    ERROR_TABLE,
    MAX_PUBLIC_CHARS,
    UNKNOWN,
    encode_problem,
    error_cache_control,
    log_problem,
    make_problem,
    make_status_problem,
)

ROOT = Path(__file__).parents[3]


def _all(kind: type[OrchestratorError]) -> Iterator[type[OrchestratorError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all(below)


def test_every_error_class_has_its_own_row_in_the_table() -> None:
    for module in pkgutil.walk_packages(orchestrator.__path__, "orchestrator."):
        importlib.import_module(module.name)  # an error may be declared anywhere
    unmapped = {
        kind.__name__
        for kind in _all(OrchestratorError)
        if kind.__module__.startswith("orchestrator") and kind not in ERROR_TABLE
    }
    assert not unmapped


def test_every_503_is_retryable_and_has_retry_after() -> None:
    for kind, meaning in ERROR_TABLE.items():
        assert (meaning.status == 503) <= kind.passing, kind
    assert dict(make_problem(Overloaded("full", 2.2)).headers)["Retry-After"] == "3"
    assert "Retry-After" in dict(make_problem(ImageServerUnavailable("gone")).headers)
    assert "Retry-After" not in dict(
        make_problem(OriginUnavailable("404", retryable=False)).headers
    )


def test_the_text_of_an_unknown_exception_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    error = RuntimeError("/secret/path")
    problem = make_problem(error)
    assert (problem.status, problem.public) == (500, UNKNOWN)
    with caplog.at_level(logging.INFO):
        log_problem(error, problem, "id-1", "/x")
    (record,) = caplog.records
    assert record.getMessage() == "unexpected error"
    assert record.exc_info is not None
    assert vars(record)["request_id"] == "id-1"


def test_a_mistake_of_a_client_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    error = InvalidImageRequest("size", "The size is none.")
    with caplog.at_level(logging.DEBUG):
        log_problem(error, make_problem(error), "id-1", "/x")
    assert not caplog.records


def test_a_time_out_is_504() -> None:
    assert make_problem(TimeoutError()).status == 504


def test_errors_of_aiohttps_router_keep_status_and_allow_but_not_their_text() -> None:
    problem = make_problem(web.HTTPMethodNotAllowed("PUT", ["GET", "HEAD"]))
    assert problem.status == 405
    assert dict(problem.headers)["Allow"] == "GET, HEAD, OPTIONS"
    assert (
        make_problem(web.HTTPNotFound(text="<b>hm</b>")).public == make_status_problem(404).public
    )


def test_the_public_body_has_three_fields_and_the_private_one_seven() -> None:
    error = OriginUnavailable("The origin answered 503.")
    error.__cause__ = OSError("/some/path")
    problem = make_problem(error)
    public = json.loads(encode_problem(problem, "r"))
    assert public == {"error": "The origin answered 503.", "status": 502, "requestId": "r"}
    private = json.loads(encode_problem(problem, "r", private=True))
    assert private == public | {
        "code": "origin_unavailable",
        "stage": "",
        "retryable": True,
        "detail": "The origin answered 503.",
    }


def test_the_faults_of_a_body_are_listed_on_the_private_port_only() -> None:
    problem = make_problem(InvalidInput("Two members.", faults=["member 0: id", "member 3: space"]))
    private = json.loads(encode_problem(problem, "r", private=True))
    assert private["faults"] == ["member 0: id", "member 3: space"]
    assert private["detail"] == "member 0: id\nmember 3: space"
    assert "faults" not in json.loads(encode_problem(problem, "r"))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Damaged("Cut."), 422, "damaged"),
        (Unsupported("24-bit floats."), 422, "unsupported"),
        (TooLarge("Huge."), 413, "too_large"),
        (OversizeImage("Huge."), 422, "too_large"),
        (NotAnImage("HTML."), 422, "not_an_image"),
        (DecodeTimeout("Slow."), 422, "decode_timeout"),
        (DecodeFailed("Twice."), 422, "decode_failed"),
    ],
    ids=lambda value: str(value) if not isinstance(value, Exception) else type(value).__name__,
)
def test_the_public_body_has_the_code_if_the_image_is_the_cause(
    error: OrchestratorError, status: int, code: str
) -> None:
    body = json.loads(encode_problem(make_problem(error), "r"))
    assert body == {"error": error.public, "status": status, "requestId": "r", "code": code}


def test_the_codes_of_refused_images_are_documented() -> None:
    text = (ROOT / "docs" / "http.md").read_text()
    table = text[text.index("## Codes of refused images") :]
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", table, re.M))
    classes = {*_all(Unprocessable), TooLarge} - {Unprocessable, OversizeImage}
    assert rows == {kind.code: str(ERROR_TABLE[kind].status) for kind in classes}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("origin_unavailable", 502),
        ("origin_not_found", 502),
        ("origin_timeout", 504),
        ("not_an_image", 422),
    ],
)
def test_the_code_of_an_origin_error_selects_its_status(code: str, status: int) -> None:
    problem = make_problem(OriginUnavailable("It failed.", retryable=False, code=code))
    assert (problem.status, problem.code) == (status, code)


def test_over_quota_is_507() -> None:
    assert make_problem(OverQuota("Full.")).status == 507


def test_the_body_of_an_error_is_short_even_if_the_sentence_is_long() -> None:
    body = encode_problem(make_problem(InvalidImageRequest("size", "x" * 9000)), "r")
    assert len(body) < MAX_PUBLIC_CHARS + 100


@pytest.mark.parametrize(
    ("status", "right"),
    [(400, "brief"), (404, "brief"), (422, "brief")]
    + [(status, "never") for status in (401, 403, 412, 416, 500, 502, 503, 504)],
)
def test_only_mistakes_of_clients_may_be_cached(status: int, right: str) -> None:
    assert error_cache_control(status, "brief", "never") == right


def test_the_answer_and_the_queue_say_the_same_about_a_retry() -> None:
    errors = [_any_of(kind) for kind in ERROR_TABLE]
    errors += [OriginUnavailable("x", retryable=False), ZeroDivisionError(), TimeoutError()]
    for error in errors:
        assert make_problem(error).retryable == fault_of(error, "x").retryable, type(error)


def _any_of(kind: type[OrchestratorError]) -> OrchestratorError:
    if kind is Superseded:
        return Superseded()
    if kind is TooManyRequests:
        return TooManyRequests("x", 1)
    return kind("region", "x") if kind is InvalidImageRequest else kind("x")
