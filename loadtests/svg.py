"""The frame of the plots in docs/."""

from __future__ import annotations

from collections.abc import Iterable


def frame_plot(width: int, height: int, parts: Iterable[str]) -> str:
    """A plot of this size in pixels, on white: the page around it may be dark."""
    opened = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">'
    )
    page = f'<rect width="{width}" height="{height}" rx="8" fill="#fff"/>'
    return "\n".join([opened, page, *parts, "</svg>"]) + "\n"
