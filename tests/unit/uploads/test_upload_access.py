"""Secrets of changes, and the sites whose scripts may upload."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from orchestrator.errors import Forbidden, NotAuthorised
from orchestrator.settings import Uploads
from orchestrator.uploads.upload_access import UploadAccess

ACCESS = UploadAccess(
    Uploads(
        secrets=[SecretStr("new"), SecretStr("öld")],
        allowed_origins=["https://www.example.org"],
    )
)


@pytest.mark.parametrize(
    ("field", "header"),
    [("new", ""), ("öld", ""), ("", "Bearer new"), ("", "bearer  new"), ("new", "Basic eA==")],
)
def test_each_secret_permits_changes(field: str, header: str) -> None:
    ACCESS.check_secret(field, header)


@pytest.mark.parametrize(("field", "header"), [("", ""), ("", "Basic bmV3"), ("", "Bearer ")])
def test_no_secret_is_not_authorised(field: str, header: str) -> None:
    with pytest.raises(NotAuthorised):
        ACCESS.check_secret(field, header)


@pytest.mark.parametrize(
    ("field", "header"), [("ne", ""), ("", "Bearer newer"), ("x", "Bearer new")]
)
def test_a_wrong_secret_is_forbidden(field: str, header: str) -> None:
    with pytest.raises(Forbidden):
        ACCESS.check_secret(field, header)


def test_scripts_of_other_sites_are_forbidden_if_sites_are_configured() -> None:
    ACCESS.check_origin("")
    ACCESS.check_origin("https://www.example.org")
    with pytest.raises(Forbidden):
        ACCESS.check_origin("https://evil.example")
    UploadAccess(Uploads()).check_origin("https://evil.example")
