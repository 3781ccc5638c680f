"""Recognises SVG by what stands before its root element, and reads it as UTF-8.

The search is linear and bounded. Entities are neither expanded nor loaded here. librsvg receives
the drawing without an address, so it loads nothing that the drawing refers to.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from orchestrator.errors import Damaged, TooLarge
from orchestrator.imaging.formats.bounded_read import read_at_most

MAX_BYTES = 32 * 1024**2
HEAD_BYTES = 256 * 1024
"""The root element must begin within these bytes: the texts of licences are long comments."""
_MAX_PARTS = 1000
_GZIP = b"\x1f\x8b"
_UTF_16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"<\x00": "utf-16-le",
           b"\x00<": "utf-16-be"}  # fmt: skip
_ROOT = re.compile(r"<(?:[A-Za-z_][\w.-]{0,100}:)?svg[\s/>]", re.IGNORECASE)
_DECLARATION = re.compile(r"\s*<\?xml\s[^>]{0,500}\?>")
_SUBSET_PART = re.compile(r"""["'\]]|<!--|<\?""")
_DOCTYPE_PART = re.compile(r"""["'\[>]""")


def may_be_svg(head: bytes) -> bool:
    """True if a file that begins with `head` is XML or compressed, so that more of it must be read
    to see whether it is SVG.
    """
    if head[:2] == _GZIP or head[:2] in _UTF_16:
        return True
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<" or not head.strip()


def is_svg(head: bytes) -> bool:
    """True if the root element of the XML that begins with `head` is svg, in any encoding of XML,
    compressed (gzip) or not.
    """
    if head[:2] == _GZIP:
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
        except zlib.error:
            return False
    text = _decode(head[:HEAD_BYTES])
    position = 0
    for _ in range(_MAX_PARTS):
        while position < len(text) and text[position].isspace():
            position += 1
        if text.startswith("<?", position):
            position = _after(text, "?>", position + 2)
        elif text.startswith("<!--", position):
            position = _after(text, "-->", position + 4)
        elif text[position : position + 9].upper() == "<!DOCTYPE":
            position = _after_doctype(text, position + 9)
        else:
            return _ROOT.match(text, position) is not None
    return False


def read_svg(path: Path) -> bytes:
    """The drawing at `path` as librsvg reads it: not compressed, and UTF-8 if it is UTF-16. Raises
    TooLarge, Damaged, OSError.
    """
    with path.open("rb") as file:
        body = read_at_most(file, MAX_BYTES + 1)
    if body[:2] == _GZIP:
        decompressor = zlib.decompressobj(wbits=31)
        try:
            body = decompressor.decompress(body, MAX_BYTES + 1)
        except zlib.error as error:
            raise Damaged("The compressed SVG file is damaged.") from error
        if len(body) <= MAX_BYTES and not decompressor.eof:
            raise Damaged("The image file is incomplete.")
    if len(body) > MAX_BYTES:
        raise TooLarge(f"The SVG file has more than {MAX_BYTES} bytes. Use a smaller file.")
    if body[:2] in _UTF_16:
        return _DECLARATION.sub("", _decode(body), count=1).encode()
    return body


def _decode(body: bytes) -> str:
    encoding = _UTF_16.get(body[:2])
    if encoding is None:
        return body.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    return body.decode(encoding, "replace").removeprefix("\ufeff")


def _after(text: str, end: str, position: int) -> int:
    """The position after the next `end`; the end of the text if there is none."""
    found = text.find(end, position)
    return len(text) if found < 0 else found + len(end)


def _after_doctype(text: str, position: int) -> int:
    """The position after a document type declaration, with its internal subset."""
    pattern, ends = _DOCTYPE_PART, {'"': '"', "'": "'", "<!--": "-->", "<?": "?>"}
    while found := pattern.search(text, position):
        part, position = found[0], found.end()
        if part == ">":
            return position
        if part in "[]":
            pattern = _SUBSET_PART if part == "[" else _DOCTYPE_PART
        else:
            position = _after(text, ends[part], position)
    return len(text)
