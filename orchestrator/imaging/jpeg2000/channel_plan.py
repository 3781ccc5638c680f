"""Which components of a JPEG2000 file are its colours and its opacity, and what they mean.

Decided from the headers alone. Only a channel that the file declares as the opacity of the whole
image is opacity; all further channels are dropped. A colour space that cannot be converted is
refused by name.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from orchestrator.errors import Damaged, Unsupported
from orchestrator.imaging.jpeg2000.boxes import (
    ANY_PROFILE,
    ENUMERATED,
    RESTRICTED_PROFILE,
    Boxes,
    ChannelDefinition,
    ColourBox,
    PaletteColumn,
)
from orchestrator.imaging.jpeg2000.codestream import Component

Model = Literal[
    "gray",
    "gray inverted",
    "rgb",
    "ycc",
    "ycc video",
    "ycc 709 video",
    "cmy",
    "cmyk",
    "ycck",
    "lab",
]
_COLOURS: dict[Model, int] = {"gray": 1, "gray inverted": 1, "cmyk": 4, "ycck": 4}
"""Number of colours of each model that has not three."""
_MODELS: dict[int, Model] = {
    0: "gray inverted",
    1: "ycc 709 video",
    3: "ycc",
    4: "ycc video",
    11: "cmy",
    12: "cmyk",
    13: "ycck",
    14: "lab",
    15: "gray",
    16: "rgb",
    17: "gray",
    18: "ycc",
    24: "ycc",
}
"""By number of the enumerated colour space."""
_NAMES = {
    9: "PhotoYCC",
    19: "CIEJab",
    20: "e-sRGB",
    21: "ROMM-RGB",
    22: "YPbPr (1125/60)",
    23: "YPbPr (1250/50)",
}
_PROFILES: dict[bytes, Model] = {b"GRAY": "gray", b"RGB ": "rgb", b"CMYK": "cmyk"}
_PROFILE_HEADER = 128
_LAB_DEFAULTS = {0x00443530: "D50", 0x00443635: "D65"}
"""Code of each illuminant that is supported."""
_OPACITY, _PREMULTIPLIED = 1, 2
_DEEP_BITS = 8


@dataclass(frozen=True, slots=True)
class Channel:
    """The component that holds a channel, the bits of its samples, and for an index into a palette
    the column that has the values.
    """

    component: int
    bits: int
    signed: bool
    column: PaletteColumn | None = None


@dataclass(frozen=True, slots=True)
class LabScale:
    """How samples become L, a and b: value = (sample - offset) * range / highest sample."""

    ranges: tuple[int, int, int]
    offsets: tuple[int, int, int]
    illuminant: str


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """How the components become an image."""

    model: Model
    colours: tuple[Channel, ...]
    opacity: Channel | None = None
    is_premultiplied: bool = False
    profile: bytes = b""
    lab: LabScale | None = None
    ignores_profile: bool = False
    """True if the file has a profile that does not fit its channels."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The colours, then the opacity if there is one."""
        return (*self.colours, self.opacity) if self.opacity else self.colours

    @property
    def bands(self) -> int:
        """Number of bands of the image."""
        return len(self.channels)

    @property
    def is_deep(self) -> bool:
        """True if the image has 16 bits, because a colour has more than 8."""
        return any(_value_bits(channel) > _DEEP_BITS for channel in self.colours)

    @property
    def has_palette(self) -> bool:
        """True if samples are indices, which cannot be averaged."""
        return any(channel.column for channel in self.channels)

    @property
    def is_plain(self) -> bool:
        """True if samples are pixels in 8 bits, where components are not subsampled."""
        return (
            self.model in ("gray", "rgb")
            and self.opacity is None
            and all(
                channel.bits == _DEEP_BITS and not channel.signed and channel.column is None
                for channel in self.colours
            )
        )


def plan_channels(boxes: Boxes, components: tuple[Component, ...]) -> ChannelPlan:
    """The plan for a file with these boxes and components. Raises Damaged, Unsupported."""
    channels = _list_channels(boxes, components)
    definitions = {definition.channel: definition for definition in boxes.definitions}
    if any(number >= len(channels) for number in definitions):
        raise Damaged("The JPEG2000 file defines channels that it does not have.")
    colours = _order_colours(channels, definitions)
    model, box = _choose_model(boxes.colours, len(colours))
    if len(colours) < _COLOURS.get(model, 3):
        raise Damaged("The JPEG2000 file has fewer channels than its colour space.")
    if model == "rgb" and _has_subsampled_chroma(colours, components):
        model = "ycc"
    colours = colours[: _COLOURS.get(model, 3)]
    opacity, is_premultiplied = _find_opacity(channels, definitions, len(colours))
    return ChannelPlan(
        model,
        tuple(colours),
        opacity,
        is_premultiplied,
        box.profile if box else b"",
        _parse_lab(box.parameters, colours) if model == "lab" and box else None,
        ignores_profile=box is None and any(each.profile for each in boxes.colours),
    )


def _value_bits(channel: Channel) -> int:
    return channel.column.bits if channel.column else channel.bits


def _list_channels(boxes: Boxes, components: tuple[Component, ...]) -> list[Channel]:
    mapping = boxes.mapping or tuple((n, None) for n in range(len(components)))
    channels = []
    for number, column in mapping:
        if number >= len(components):
            raise Damaged("The JPEG2000 file maps a component that it does not have.")
        component = components[number]
        values = None if column is None else boxes.palette[column]
        channels.append(Channel(number, component.bits, component.signed, values))
    return channels


def _order_colours(
    channels: list[Channel], definitions: dict[int, ChannelDefinition]
) -> list[Channel]:
    """The channels that are colours: first those with an association, in its order."""
    colours = [n for n in range(len(channels)) if n not in definitions or not definitions[n].kind]

    def position(number: int) -> int:
        definition = definitions.get(number)
        has_place = definition and 0 < definition.association <= len(channels)
        return definition.association if definition and has_place else number + 1

    return [channels[number] for number in sorted(colours, key=position)]


def _find_opacity(
    channels: list[Channel], definitions: dict[int, ChannelDefinition], colours: int
) -> tuple[Channel | None, bool]:
    """(the channel that is the opacity of the whole image, True if colours are premultiplied)."""
    whole = (0, 1) if colours == 1 else (0,)
    for number, definition in sorted(definitions.items()):
        if definition.kind in (_OPACITY, _PREMULTIPLIED) and definition.association in whole:
            return channels[number], definition.kind == _PREMULTIPLIED
    return None, False


def _has_subsampled_chroma(colours: list[Channel], components: tuple[Component, ...]) -> bool:
    """True for a file that OpenJPEG, too, takes for sYCC: of its three colours the second and the
    third have the same resolution, lower than the first.
    """
    steps = [
        (components[channel.component].dx, components[channel.component].dy) for channel in colours
    ]
    return len(steps) == 3 and steps[1] == steps[2] != steps[0]


def _choose_model(boxes: tuple[ColourBox, ...], colours: int) -> tuple[Model, ColourBox | None]:
    """The colour model of the first specification that is understood, and that specification.
    Without any, one channel is gray and three are RGB.
    """
    refused: list[Unsupported] = []
    for box in boxes:
        try:
            model = _model_of(box)
        except Unsupported as error:
            refused.append(error)
            continue
        if model is None:
            continue
        # A gray space of three colours, or RGB of one, does not fit. OpenJPEG shows such files by
        # the number of their components.
        if (model == "gray" and colours >= 3) or (model == "rgb" and colours < 3):
            break
        return model, box
    if refused:
        raise refused[0]
    return ("rgb" if colours >= 3 else "gray"), None


def _model_of(box: ColourBox) -> Model | None:
    """None for a specification that says nothing. Raises Unsupported."""
    if box.method == ENUMERATED:
        if box.space not in _MODELS:
            raise _unsupported_space(_NAMES.get(box.space, f"number {box.space}"))
        return _MODELS[box.space]
    if box.method in (RESTRICTED_PROFILE, ANY_PROFILE):
        if len(box.profile) < _PROFILE_HEADER:
            return None
        space = box.profile[16:20]
        if space not in _PROFILES:
            raise _unsupported_space(f"{space.decode('ascii', 'replace').strip()} of a profile")
        return _PROFILES[space]
    if box.method in (4, 5):
        raise _unsupported_space("of a vendor" if box.method == 4 else "with parameters")
    return None


def _unsupported_space(name: str) -> Unsupported:
    return Unsupported(
        f"JPEG2000 files in the colour space {name} are not supported. Convert the file to sRGB."
    )


def _parse_lab(parameters: bytes, colours: list[Channel]) -> LabScale:
    """The parameters of a CIELab space, or their default values (ISO/IEC 15444-2, M.11.7.4.1)."""
    bits = [channel.bits for channel in colours]
    if len(parameters) < 28:
        offsets = (0, 1 << (bits[1] - 1), (1 << (bits[2] - 2)) + (1 << (bits[2] - 3)))
        return LabScale((100, 170, 200), offsets, "D50")
    values = struct.unpack(">7I", parameters[:28])
    if values[6] not in _LAB_DEFAULTS:
        raise _unsupported_space("CIELab with an illuminant other than D50 and D65")
    return LabScale(values[0:6:2], values[1:6:2], _LAB_DEFAULTS[values[6]])
