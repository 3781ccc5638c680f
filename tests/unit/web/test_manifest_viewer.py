"""Which addresses the page with Mirador opens."""

from __future__ import annotations

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.web.manifest_viewer import own_document
from orchestrator.web.page_templates import page_policy

BASE = "http://pictures.example/iiif"


@pytest.mark.parametrize(
    "path",
    [
        "/iiif-manifest/1/1/page",
        "/iiif-manifest/v2/1/1/a%2Fb",
        "/iiif-resource/v3/1/book/atlas/1",
        "/iiif-collection/1?page=2",
    ],
)
def test_a_document_of_this_server_is_opened(path: str) -> None:
    assert own_document(path, BASE) == BASE + path
    assert own_document(BASE + path, BASE) == BASE + path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://elsewhere.example/iiif-manifest/1/1/page",
        "//elsewhere.example/iiif-manifest/1/1/page",
        f"{BASE}.elsewhere.example/iiif-manifest/1/1/page",
        f"{BASE}@elsewhere.example/iiif-manifest/1/1/page",
        "/\\elsewhere.example/iiif-manifest/1/1/page",
        "/iiif-manifest/1/1/\\page",
        "javascript:alert(1)",
        "/iiif/3/1%2F1%2Fpage/info.json",
        "/iiif-manifest/",
        "/iiif-manifest/1/1/a b",
        "/iiif-manifest/1/1/" + "a" * 3000,
        "/iiif-manifest/1/1/page\n",
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_any_other_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        own_document(text, BASE)


def test_the_policy_permits_the_styles_of_the_viewer_by_a_nonce_alone() -> None:
    policy = page_policy([BASE], nonce="abc")
    assert "style-src 'self' 'nonce-abc';" in policy
    assert "frame-src 'self' http://pictures.example;" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
