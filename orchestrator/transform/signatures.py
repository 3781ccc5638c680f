"""Signatures of URLs: HMAC-SHA256 in hexadecimal digits over the parameters, the path and the time
until which the URL is valid.

The message is these texts, each on a line of its own: the parameters as in the URL, the path, both
percent-decoded, and `exp`, which is empty without an expiry. If headers choose a bucket, its name
(`region/bucket`) is a fourth line, so that a URL is valid for one picture only.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

EXPIRY, SIGNATURE = "exp", "sig"
"""The names of the query parameters."""


@dataclass(frozen=True, slots=True)
class SignedText:
    """What a signature signs. `exp` is a Unix time in seconds, or ""; `bucket` the one that headers
    choose.
    """

    segment: str
    path: str
    exp: str = ""
    bucket: str = ""


def sign(secret: str, text: SignedText) -> str:
    """The signature of a URL."""
    lines = [text.segment, text.path, text.exp, *([text.bucket] if text.bucket else [])]
    message = "\n".join(lines).encode("utf-8", "surrogatepass")
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def is_signed(secrets: Sequence[str], text: SignedText, signature: str) -> bool:
    """True if the signature was made with one of the secrets. Takes the same time for each wrong
    one.
    """
    given = signature.encode("utf-8", "surrogatepass")
    matches = [hmac.compare_digest(sign(each, text).encode(), given) for each in secrets]
    return any(matches)
