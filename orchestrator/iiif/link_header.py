"""The Link header of images and info documents (Image API 3.0, sections 4.7, 5.10 and 6; 2.1 the
same).
"""

from __future__ import annotations

from orchestrator.iiif.info_documents import CONTEXTS, profile_uri


def image_link(version: int, canonical_url: str, *, level: int = 2) -> str:
    """`Link` of an image: its canonical URL (already encoded) and the compliance level, in one
    header.

    One, because the official validator reads only the first.
    """
    return f'<{canonical_url}>;rel="canonical",<{profile_uri(version, level=level)}>;rel="profile"'


def info_link(version: int, *, linked: bool, level: int = 2) -> str:
    """`Link` of an info document: the compliance level, and the context where the media type is
    plain JSON.
    """
    profile = f'<{profile_uri(version, level=level)}>;rel="profile"'
    if linked:
        return profile
    context = f'<{CONTEXTS[version]}>;rel="http://www.w3.org/ns/json-ld#context"'
    return f'{profile},{context};type="application/ld+json"'


def info_media_type(version: int, *, linked: bool) -> str:
    """`Content-Type` of an info document as linked or plain JSON (3.0, section 5.1: with the
    profile).
    """
    if not linked:
        return "application/json"
    return f'application/ld+json;profile="{CONTEXTS[3]}"' if version == 3 else "application/ld+json"
