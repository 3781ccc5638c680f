"""The Link header of images and info documents (Image API 3.0, sections 4.7, 5.10 and 6; the same
in 2.1), and of documents of the Presentation API (3.0, section 6.2; 2.1, section 7.2).
"""

from __future__ import annotations

from orchestrator.iiif.info_documents import CONTEXTS, profile_uri
from orchestrator.iiif.presentation.presentation_input import CONTEXTS as PRESENTATION_CONTEXTS


def image_link(version: int, canonical_url: str, *, level: int = 2) -> str:
    """`Link` of an image: its canonical URL and the compliance level.

    All of `canonical_url` is already percent-encoded, except the ^ of a size (RFC 3986, appendix A,
    does not allow it). Both are in one header, because the official validator reads only the first
    `Link` header.
    """
    canonical_url = canonical_url.replace("^", "%5E")
    return f'<{canonical_url}>;rel="canonical",<{profile_uri(version, level=level)}>;rel="profile"'


def info_link(version: int, *, linked: bool, level: int = 2) -> str:
    """`Link` of an info document: the compliance level, and the JSON-LD context if the media type
    is application/json.
    """
    profile = f'<{profile_uri(version, level=level)}>;rel="profile"'
    if linked:
        return profile
    context = f'<{CONTEXTS[version]}>;rel="http://www.w3.org/ns/json-ld#context"'
    return f'{profile},{context};type="application/ld+json"'


def info_media_type(version: int, *, linked: bool) -> str:
    """`Content-Type` of an info document: application/ld+json if `linked`, otherwise
    application/json. In 3.0 the former has the context as its profile (section 5.1).
    """
    if not linked:
        return "application/json"
    return f'application/ld+json;profile="{CONTEXTS[3]}"' if version == 3 else "application/ld+json"


def document_link(version: int, *, linked: bool) -> tuple[tuple[str, str], ...]:
    """The headers of a document of the Presentation API: the JSON-LD context if the media type is
    application/json.
    """
    if linked:
        return ()
    context = f'<{PRESENTATION_CONTEXTS[version]}>;rel="http://www.w3.org/ns/json-ld#context"'
    return (("Link", f'{context};type="application/ld+json"'),)


def document_media_type(version: int, *, linked: bool) -> str:
    """`Content-Type` of a document of the Presentation API, with the context as its profile."""
    if not linked:
        return "application/json"
    return f'application/ld+json;profile="{PRESENTATION_CONTEXTS[version]}"'
