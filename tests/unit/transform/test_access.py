"""Which parameters a client may request."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from pydantic import SecretStr

from orchestrator.errors import Expired, Forbidden, InvalidInput, KeyRequired, SettingsError
from orchestrator.settings import Ico
from orchestrator.transform.access import AccessRules, Signed
from orchestrator.transform.signatures import SignedText, sign

NOW = 1_800_000_000
NEW, OLD = "the-new-secret-of-ours", "the-old-secret-of-ours"


def rules(**settings: Any) -> AccessRules:
    settings.setdefault("secrets", [SecretStr(NEW), SecretStr(OLD)])
    return AccessRules(Ico(**settings), now=lambda: NOW)


def signed(exp: str = "", secret: str = NEW, bucket: str = "") -> Signed:
    return Signed(exp, sign(secret, SignedText("width=5", "a/b.jpg", exp, bucket)))


def test_the_signature_is_that_of_openssl_over_three_lines() -> None:
    message = b"width=5\na/b.jpg\n1800000000"
    expected = hmac.new(NEW.encode(), message, hashlib.sha256).hexdigest()
    assert sign(NEW, SignedText("width=5", "a/b.jpg", "1800000000")) == expected


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_each_secret_signs(secret: str) -> None:
    permitted = rules().permit("width=5", "a/b.jpg", signed(secret=secret))
    assert (permitted.parameters.width, permitted.by_signature, permitted.until) == (5, True, None)


@pytest.mark.parametrize(
    ("segment", "path", "bucket"),
    [
        ("width=6", "a/b.jpg", ""),
        ("width=5", "a/c.jpg", ""),
        ("width=5", "b.jpg", ""),
        ("width=5", "a/b.jpg", "eu/press"),
    ],
)
def test_a_signature_for_something_else_is_refused(segment: str, path: str, bucket: str) -> None:
    with pytest.raises(Forbidden):
        rules().permit(segment, path, signed(), bucket)


def test_a_signature_expires() -> None:
    later = str(NOW + 1)
    assert rules().permit("width=5", "a/b.jpg", signed(later)).until == NOW + 1
    with pytest.raises(Expired):
        rules().permit("width=5", "a/b.jpg", signed(str(NOW)))
    with pytest.raises(Forbidden):  # the time is signed, too
        rules().permit("width=5", "a/b.jpg", Signed(str(NOW + 9), signed(later).sig))
    with pytest.raises(InvalidInput):
        rules().permit("width=5", "a/b.jpg", signed("tomorrow"))


def test_without_a_signature_nothing_but_presets_and_allowed_parameters_is_permitted() -> None:
    strict = rules(presets={"thumb": "width=9,crop=center"}, allowed=["width=7,fit=crop"])
    assert strict.permit("thumb", "a.jpg", Signed()).parameters.width == 9
    for spelling in ("width=7", "d2lkdGg9Nw==", "fit=crop,width=7,height=0"):
        permitted = strict.permit(spelling, "a.jpg", Signed())
        assert (permitted.parameters.width, permitted.by_signature) == (7, False)
    with pytest.raises(Forbidden):
        strict.permit("width=9,crop=center", "a.jpg", Signed())
    with pytest.raises(Forbidden):
        rules(secrets=[], presets={"thumb": "width=9"}).permit("width=8", "a.jpg", signed())


def test_open_permits_all_and_still_checks_the_syntax() -> None:
    anyone = rules(open=True)
    assert anyone.permit("width=8", "a.jpg", Signed("", "forged")).by_signature is False
    with pytest.raises(InvalidInput):
        anyone.permit("promo", "a.jpg", Signed())


def test_a_purge_needs_one_of_its_secrets() -> None:
    purging = rules(purge_secrets=[SecretStr("first"), SecretStr("second")])
    purging.check_purge("Bearer second")
    purging.check_purge("bearer first")
    for missing in ("", "Bearer ", "Basic first"):
        with pytest.raises(KeyRequired):
            purging.check_purge(missing)
    with pytest.raises(Forbidden):
        purging.check_purge("Bearer third")
    with pytest.raises(Forbidden):
        rules().check_purge("Bearer first")


@pytest.mark.parametrize("settings", [{"presets": {"x": "widht=5"}}, {"allowed": ["big"]}])
def test_a_preset_that_is_no_list_of_parameters_is_a_fault_of_the_settings(
    settings: dict[str, Any],
) -> None:
    with pytest.raises(SettingsError, match=r"ico\.(presets: x|allowed): "):
        rules(**settings)
