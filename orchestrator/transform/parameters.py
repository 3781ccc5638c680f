"""The parameters of a transform: `width=500,fit=crop` in plain text or base64, as typed values.

The parser needs no picture. What it cannot read raises InvalidInput, whose message names the key
and says what to write.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from orchestrator.errors import InvalidInput

Fit = Literal["clip", "crop"]
Crop = Literal["top", "bottom", "left", "right", "focus", "center", "smart"]
NamedFormat = Literal["", "jpg", "png", "webp", "avif"]
FocusOrder = Literal["whxy", "xywh"]
Focus = tuple[int, int, int, int]
"""(width, height, x, y) of a box in pixels of the upright original."""

MAX_LENGTH = 1024
"""Longest segment or text in characters."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_BOX = re.compile(r"\s*([0-9]+)\s*:\s*([0-9]+)\s*:\s*([0-9]+)\s*:\s*([0-9]+)\s*")
_FORMATS: dict[str, NamedFormat] = {
    "jpeg": "jpg",
    "jpg": "jpg",
    "png": "png",
    "webp": "webp",
    "avif": "avif",
}
_FORMAT_WORDS = {"jpg": "jpeg", "png": "png", "webp": "webp", "avif": "avif"}
_ORIGINAL_SIZE = "width=0"
_SHOWN_LENGTH = 40
_FORM = "Write pairs as width=500,fit=crop, in plain text or base64."


@dataclass(frozen=True, slots=True)
class Parameters:
    """What to make of a picture. Width and height are in pixels; 0 follows from the other one, and
    a negative one requests the original.

    `crop` names the side that is cut off. `focus` is used by crop=focus, `quality` by lossy formats
    and, divided by 10, as the compression of PNG. With `frame` an animation becomes its first
    frame. `format` is "" if the format of the original decides.
    """

    width: int = 0
    height: int = 0
    quality: int = 75
    fit: Fit = "crop"
    crop: Crop = "top"
    focus: Focus = (0, 0, 0, 0)
    frame: bool = False
    format: NamedFormat = ""

    @property
    def canonical(self) -> str:
        """One text for all parameters that give the same picture of every original. Defaults and
        what has no effect are left out. It can be parsed, with the focus in the order w:h:x:y.
        """
        pairs = self._size_pairs()
        if self.quality != _DEFAULTS.quality:
            pairs.append(f"quality={self.quality}")
        if self.frame:
            pairs.append("frame=true")
        if self.format:
            pairs.append(f"format={_FORMAT_WORDS[self.format]}")
        return ",".join(pairs) or _ORIGINAL_SIZE

    def _size_pairs(self) -> list[str]:
        if self.width < 0 or self.height < 0:
            return []  # the original, as without a size
        sides = {"width": self.width, "height": self.height}
        pairs = [f"{name}={side}" for name, side in sides.items() if side]
        if len(pairs) < 2:
            return pairs  # one side alone decides: nothing is cropped
        if self.fit == "clip":
            return [*pairs, "fit=clip"]
        if self.crop != _DEFAULTS.crop:
            pairs.append(f"crop={self.crop}")
        if self.crop == "focus" and self.focus != _DEFAULTS.focus:
            pairs.append("focus={}:{}:{}:{}".format(*self.focus))
        return pairs


_DEFAULTS = Parameters()


def parse_parameters(
    segment: str, *, focus_order: FocusOrder = "whxy", strict: bool = True
) -> Parameters:
    """The parameters in a path segment that was percent-decoded once: base64 (standard or URL-safe,
    padded or not) or plain text. Whitespace around names and values is ignored.

    `focus_order` is the order of the numbers of `focus`: width, height, x, y, or x, y, width,
    height. Without `strict` the last of several equal keys counts. Raises InvalidInput.
    """
    values: dict[str, Any] = {}
    for pair in decode(segment).split(","):
        key, value = _split(pair)
        parse = _VALUES.get(key)
        if parse is None:
            known = ", ".join(_VALUES)
            raise InvalidInput(f"The parameter {_shown(key)} is unknown. Known are: {known}.")
        if key in values and strict:
            raise InvalidInput(f"The parameter {key} occurs twice. Remove one.")
        values[key] = parse(key, value)
    if "focus" in values and focus_order == "xywh":
        x, y, width, height = values["focus"]
        values["focus"] = (width, height, x, y)
    return Parameters(**values)


def encode(text: str) -> str:
    """`text` in padded base64, as a path segment. It is not checked."""
    return base64.b64encode(text.encode()).decode()


def decode(segment: str) -> str:
    """The plain text of a path segment, which is base64 or plain text already, without whitespace
    around it. Its parameters are not checked. Raises InvalidInput.
    """
    if len(segment) > MAX_LENGTH:
        raise InvalidInput(f"The parameters may have at most {MAX_LENGTH} characters.")
    compact = "".join(segment.split())
    if not _BASE64.fullmatch(compact):
        text = segment  # plain text has an = inside, which base64 cannot have
    else:
        digits = compact.rstrip("=").replace("+", "-").replace("/", "_")
        try:
            text = base64.urlsafe_b64decode(digits + "=" * (-len(digits) % 4)).decode("ascii")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise InvalidInput(f"{_shown(segment)} is not a list of parameters. {_FORM}") from error
    return text.strip()


def _split(pair: str) -> tuple[str, str]:
    """(key, value), trimmed. Raises InvalidInput."""
    parts = [part.strip() for part in pair.split("=")]
    if len(parts) != 2:
        raise InvalidInput(f"{_shown(pair.strip())} is not a parameter. {_FORM}")
    return parts[0], parts[1]


def _side(key: str, value: str) -> int:
    return _integer(key, value, "a whole number of pixels")


def _quality(key: str, value: str) -> int:
    quality = _integer(key, value, "a whole number from 1 to 100")
    if not 1 <= quality <= 100:
        raise _wrong(key, value, "a whole number from 1 to 100")
    return quality


def _integer(key: str, value: str, expected: str) -> int:
    if not _INTEGER.fullmatch(value):
        raise _wrong(key, value, expected)
    return int(value)


def _one_of(*words: str) -> Callable[[str, str], str]:
    def parse(key: str, value: str) -> str:
        if value not in words:
            raise _wrong(key, value, f"one of {', '.join(words)}")
        return value

    return parse


def _focus(key: str, value: str) -> Focus:
    match = _BOX.fullmatch(value)
    if match is None:
        raise _wrong(key, value, "four whole numbers of pixels, as width:height:x:y")
    width, height, x, y = map(int, match.groups())
    return width, height, x, y


def _frame(key: str, value: str) -> bool:
    return _one_of("true", "false")(key, value) == "true"


def _format(key: str, value: str) -> NamedFormat:
    return _FORMATS[_one_of(*_FORMATS)(key, value)]


def _wrong(key: str, value: str, expected: str) -> InvalidInput:
    return InvalidInput(f"The parameter {key} must be {expected}, not {_shown(value)}.")


def _shown(text: str) -> str:
    """`text` in quotation marks, shortened, as far as it can be printed."""
    return repr(text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "...")


_VALUES: dict[str, Callable[[str, str], Any]] = {
    "width": _side,
    "height": _side,
    "quality": _quality,
    "fit": _one_of(*get_args(Fit)),
    "crop": _one_of(*get_args(Crop)),
    "focus": _focus,
    "frame": _frame,
    "format": _format,
}
