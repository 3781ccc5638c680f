"""Removes from a drawing what can run in a browser or loads something: scripts, event handlers,
links, HTML, entities, and addresses outside the drawing.

The drawing is parsed and written again from what `svg_vocabulary` allows; nothing is searched and
replaced. So a second file in the same bytes does not survive either. Sizes and depth are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from orchestrator.errors import Damaged, NotAnImage, TooLarge
from orchestrator.imaging.formats.svg_styles import is_safe_value, safe_style, safe_style_sheet
from orchestrator.imaging.formats.svg_vocabulary import (
    ANIMATED,
    ANIMATIONS,
    ATTRIBUTES,
    ELEMENTS,
    PICTURE_ELEMENTS,
    SVG,
    XLINK,
    XML,
    XML_ATTRIBUTES,
)

MAX_DEPTH = 256
MAX_ELEMENTS = 500_000
_EXPANSION, _EXPANSION_MARGIN = 8, 64 * 1024
"""Entities may make a drawing this many times longer, and by this many characters in any case."""
_FRAGMENT = re.compile(r"#[^\s\"'<>()\\]+")
_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]+")


def sanitise(body: bytes) -> bytes:
    """The drawing in UTF-8, with nothing that runs or loads; `body` is not compressed (see
    `svg_text.read_svg`). Raises Damaged for what is not well-formed, NotAnImage if the root is
    not svg, TooLarge.
    """
    writer = _Writer(limit=len(body) * _EXPANSION + _EXPANSION_MARGIN)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.ordered_attributes = False
    parser.StartElementHandler = writer.start
    parser.EndElementHandler = writer.end
    parser.CharacterDataHandler = writer.text
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise Damaged("The SVG file is not well-formed XML.") from error
    return writer.result()


class _Writer:
    """Writes the allowed parts of the elements that the parser reports."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[str] = []
        self._length = 0
        self._elements = 0
        self._open: list[str] = []
        self._removed_depth = 0
        """The number of open elements of which the outermost is removed."""
        self._style: list[str] | None = None

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._elements += 1
        if len(self._open) + self._removed_depth >= MAX_DEPTH or self._elements > MAX_ELEMENTS:
            raise TooLarge("The SVG file has too many elements, or is nested too deeply.")
        namespace, _, local = name.rpartition(" ")
        if not self._open and (namespace, local) != (SVG, "svg"):
            raise NotAnImage("The root element of the SVG file is not svg. Set its namespace.")
        if self._removed_depth or self._style is not None or not _is_allowed(name, attributes):
            self._removed_depth += 1
            return
        self._open.append(local)
        namespaces = f' xmlns="{SVG}" xmlns:xlink="{XLINK}"' if len(self._open) == 1 else ""
        self._write(f"<{local}{namespaces}{_attributes_text(local, attributes)}>")
        if local == "style":
            self._style = []

    def end(self, _: str) -> None:
        if self._removed_depth:
            self._removed_depth -= 1
            return
        if self._style is not None:
            self._write(escape(safe_style_sheet("".join(self._style))))
            self._style = None
        self._write(f"</{self._open.pop()}>")

    def text(self, text: str) -> None:
        if self._removed_depth:
            self._count(text)
        elif self._style is not None:
            self._style.append(text)
            self._count(text)
        else:
            self._write(escape(text))

    def result(self) -> bytes:
        return "".join(self._parts).encode()

    def _write(self, text: str) -> None:
        self._parts.append(text)
        self._count(text)

    def _count(self, text: str) -> None:
        self._length += len(text)
        if self._length > self._limit:
            raise TooLarge("The entities of the SVG file make it too large.")


def _is_allowed(name: str, attributes: Mapping[str, str]) -> bool:
    namespace, _, local = name.rpartition(" ")
    if namespace != SVG or local not in ELEMENTS:
        return False
    return local not in ANIMATIONS or attributes.get("attributeName", "transform") in ANIMATED


def _attributes_text(element: str, attributes: Mapping[str, str]) -> str:
    parts = []
    for name, value in attributes.items():
        written = _allowed_name(name)
        kept = _allowed_value(element, written, value) if written else ""
        if written and kept is not None:
            parts.append(f" {written}={quoteattr(kept)}")
    return "".join(parts)


def _allowed_name(name: str) -> str:
    """The name as it is written, "" if the attribute is removed."""
    namespace, _, local = name.rpartition(" ")
    if not namespace:
        return local if local in ATTRIBUTES or local == "href" else ""
    if namespace == XLINK and local == "href":
        return "xlink:href"
    return f"xml:{local}" if namespace == XML and local in XML_ATTRIBUTES else ""


def _allowed_value(element: str, name: str, value: str) -> str | None:
    """The value as it is written, None if the attribute is removed."""
    if name in ("href", "xlink:href"):
        value = value.strip()
        is_picture = element in PICTURE_ELEMENTS and _PICTURE.fullmatch(value)
        return value if is_picture or _FRAGMENT.fullmatch(value) else None
    if name == "style":
        return safe_style(value) or None
    return value if is_safe_value(value) else None
