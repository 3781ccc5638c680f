"""What the landing page `/` shows of an asset, and the JSON form of its list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.iiif.paths import encode_identifier
from orchestrator.iiif.thumbnail_sizes import thumbnail_size
from orchestrator.loop_turns import in_turns
from orchestrator.model import Asset, AssetId, AssetState, Dimensions

THUMBNAIL_EDGE = 400
HTML_CACHE = "no-cache"
"""Cache-Control of the page and of its JSON form: a new asset appears on the next visit."""
_NO_THUMBNAIL = (4, 3)
"""The shape of the frame of a picture that is not served."""
_STATES = {
    AssetState.REGISTERED: "preparing",
    AssetState.INGESTING: "preparing",
    AssetState.READY: "",
    AssetState.FAILED: "failed",
}


@dataclass(frozen=True, slots=True)
class ListedAsset:
    """One asset as the page shows it."""

    id: AssetId
    service: str
    """The URI of the image service without a trailing slash: `http://host/iiif/3/1%2F1%2Fname`."""
    width: int
    height: int
    state: AssetState = AssetState.READY
    error: str = ""
    """Why the picture is not served; "" if it is."""
    code: str = ""
    """The code of `error`, for programs."""
    public_edge: int | None = None
    """Longest edge in pixels that anyone may see; None: no limit."""
    view: str = ""
    """The address of the page that shows it."""

    @classmethod
    def of(cls, asset: Asset, base: str, version: int) -> ListedAsset:
        """Return what is listed of an asset. `base` is the public base URL, `version` that of its
        image service.
        """
        return cls(
            asset.id,
            service_address(asset.id, base, version),
            asset.width,
            asset.height,
            asset.state,
            error=asset.error if asset.refused else "",
            code=asset.error_code if asset.refused else "",
            public_edge=asset.public_edge,
            view=base + view_path(asset.id),
        )

    @property
    def info(self) -> str:
        """The address of the info document."""
        return f"{self.service}/info.json"

    @property
    def note(self) -> str:
        """What the list says of its state; "" for a picture that is ready."""
        return self.error or _STATES[self.state]

    @property
    def thumbnail_size(self) -> Dimensions:
        """(width, height) in pixels of the thumbnail, never larger than the image or than anyone
        may see.
        """
        return self.size_within(THUMBNAIL_EDGE)

    @property
    def thumbnail(self) -> str:
        """The address of the thumbnail, at exactly the size that the default policy makes; "" for a
        picture that is not served.
        """
        return self.picture_within(THUMBNAIL_EDGE)

    def size_within(self, edge: int) -> Dimensions:
        """(width, height) in pixels with at most `edge` along the longer side."""
        if self.error:
            return _NO_THUMBNAIL
        limit = edge if self.public_edge is None else min(edge, self.public_edge)
        return thumbnail_size((self.width, self.height), limit)

    def picture_within(self, edge: int) -> str:
        """The address of the whole picture at that size; "" for a picture that is not served."""
        if self.error:
            return ""
        width, height = self.size_within(edge)
        return f"{self.service}/full/{width},{height}/0/default.jpg"


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of the list; `next` is the address of the following page, None on the last."""

    assets: Sequence[ListedAsset]
    next: str | None = None


async def encode_listing(listing: Listing) -> bytes:
    """Return the JSON of `GET /` with `Accept: application/json`, in UTF-8. Every one of its
    `images` can be shown; `refused`, if there are any, are those that cannot, with the reason.
    """
    images: list[Mapping[str, object]] = []
    refused: list[Mapping[str, object]] = []
    async for asset in in_turns(listing.assets):
        entry = {"id": str(asset.id), "info": asset.info, "state": str(asset.state)}
        if asset.error:
            refused.append(entry | {"error": asset.error, "code": asset.code})
        else:
            size = {"width": asset.width, "height": asset.height}
            images.append(entry | size | {"thumbnail": asset.thumbnail})
    parts = {"images": images} | ({"refused": refused} if refused else {})
    return json.dumps(parts | {"next": listing.next}).encode()


def service_address(asset_id: AssetId, base: str, version: int) -> str:
    """Return the URI of the image service of an asset, without a trailing slash."""
    text = f"{asset_id.customer}/{asset_id.space}/{asset_id.name}"
    # The path is decoded once: a name with a percent sign is written in the text form of its id.
    identifier = str(asset_id) if "%" in asset_id.name else text
    return f"{base}/iiif/{version}/{encode_identifier(identifier)}"


def view_path(asset_id: AssetId) -> str:
    """Return the path of the page that shows an asset."""
    return f"/view/{asset_id.customer}/{asset_id.space}/{encode_identifier(asset_id.name)}"
