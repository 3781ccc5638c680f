"""The protocol of image servers (docs/adr/0006-image-server-seam.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from orchestrator.iiif.geometry import ResolvedImage
from orchestrator.model import Asset


class ImageServer(Protocol):
    """Cuts a resolved image from a source file on this host."""

    async def render(self, asset: Asset, path: Path, image: ResolvedImage) -> bytes:
        """The encoded image, complete and in the requested format.

        Raises FileNotFoundError if the source file no longer exists, Unprocessable for a broken
        source, Overloaded when the queue is full, ImageServerUnavailable when the server fails.
        """
        ...

    def ready_tile(self, asset: Asset, path: Path, image: ResolvedImage) -> bytes | None:
        """The encoded image if this process has it at hand and need not wait for anything; else
        None, and `render` makes it.
        """
        ...

    def is_cheap(self, asset: Asset, image: ResolvedImage) -> bool:
        """True if rendering the image from a file on this host costs less than storing it."""
        ...

    async def check(self) -> str:
        """A description of what is wrong with the server, or '' if it answers."""
        ...

    async def close(self) -> None:
        """Close the connections to the server."""
        ...
