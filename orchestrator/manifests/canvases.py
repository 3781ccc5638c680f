"""What a viewer may know of one asset, as the values of a canvas.

The rule is in `visible_edge`, and every document follows it: of a restricted asset the public knows
what its limit of size allows; if it allows nothing, only that the asset exists, and how to get
access.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.iiif.access_services import (
    AccessAddresses,
    AccessService,
    access_service_1,
    probe_service,
    services_for,
)
from orchestrator.iiif.geometry import Limits
from orchestrator.iiif.info_documents import advertised_sizes
from orchestrator.iiif.presentation.presentation_input import CanvasInput, Services, Thumbnail
from orchestrator.iiif.scale import Dimensions, fit_within
from orchestrator.model import Asset, AssetId
from orchestrator.settings import Manifests

THUMBNAIL_EDGE = 200
"""The thumbnail of a canvas is the stored one with the longest edge that is closest to this."""
_TOKEN = re.compile(r"\{([^{}]*)\}")

Covers = Callable[[Asset], bool]
"""True if the rights of a request include a role of the asset."""


class PublicUrls(Protocol):
    """The public addresses in the documents of one request; `web` has the implementation."""

    @property
    def base(self) -> str:
        """Scheme, host, port and the path that a proxy adds, without a slash at the end."""
        ...

    def asset(self, prefix: str, version: int | None, asset: AssetId) -> str:
        """The address of the asset on a route (`iiif-img`, `thumbs`, `iiif-manifest`), without a
        version if that is None.
        """
        ...


@dataclass(frozen=True, slots=True)
class Viewing:
    """For whom a document is made, and with which addresses."""

    urls: PublicUrls
    covers: Covers


def visible_edge(asset: Asset, covers: Covers) -> int | None:
    """Longest edge in pixels that the viewer may see of the asset; None: no limit; 0: nothing, and
    then the viewer may know nothing of it but that it exists.
    """
    edge = asset.public_edge
    return None if edge is None or covers(asset) else edge


class CanvasBuilder:
    """Builds the values of canvases."""

    def __init__(
        self,
        settings: Manifests,
        limits: Limits,
        *,
        rights: str = "",
        access: Sequence[AccessService] = (),
    ) -> None:
        """`limits` are those of image requests, `rights` the statement of assets that have none,
        `access` all access services.
        """
        self._label = settings.label
        self._metadata = settings.metadata
        self._limits = limits
        self._rights = rights
        self._access = access

    def build(self, asset: Asset, position: int, viewing: Viewing) -> CanvasInput:
        """The canvas of the asset at `position` of its manifest, counted from 1."""
        urls, edge = viewing.urls, visible_edge(asset, viewing.covers)
        canvas_id = f"{urls.asset('iiif-manifest', None, asset.id)}/canvas/1"
        services = _services(urls, "iiif-img", asset.id)
        probes, cookies = self._access_of(asset, urls)
        if edge == 0:
            return CanvasInput(
                canvas_id, str(position), services, access_2=probes, access_1=cookies
            )
        limits = self._limits if edge is None else self._limits.within_edge(edge)
        stored = asset.thumbnails.all() if edge is None else asset.thumbnails.open
        sizes = advertised_sizes(asset.dimensions, stored, limits)
        return CanvasInput(
            id=canvas_id,
            label=self.label(asset, position),
            services=services,
            dimensions=asset.dimensions,
            image=sizes[-1],
            thumbnail=_thumbnail(asset, sizes, urls, services),
            metadata=self.metadata(asset),
            rights=asset.rights or self._rights,
            access_2=probes,
            access_1=cookies,
        )

    def thumbnail(self, asset: Asset, viewing: Viewing) -> Thumbnail | None:
        """The thumbnail of the asset; None if the viewer may see nothing of it."""
        return self.build(asset, 1, viewing).thumbnail

    def label(self, asset: Asset, position: int) -> str:
        """The label of an asset that the viewer may see."""
        values = {"name": asset.id.name, "position": str(position)}
        for n in (1, 2, 3):
            values[f"string{n}"] = asset.strings[n - 1]
            values[f"number{n}"] = str(asset.numbers[n - 1])
        label = _TOKEN.sub(lambda token: values[token[1]], self._label).strip()
        return label or asset.id.name

    def metadata(self, asset: Asset) -> list[tuple[str, str]]:
        """(label, value) of each field that has a value."""
        values = {"tags": ", ".join(asset.tags)}
        for n in (1, 2, 3):
            values[f"string{n}"] = asset.strings[n - 1]
            values[f"number{n}"] = str(asset.numbers[n - 1] or "")
        return [(label, values[name]) for name, label in self._metadata.items() if values[name]]

    def access_services(self, asset: Asset) -> tuple[AccessService, ...]:
        """The services that give access to the asset; none if it is public."""
        if not asset.restricted:
            return ()
        return services_for(self._access, asset.id.customer, asset.roles)

    def _access_of(
        self, asset: Asset, urls: PublicUrls
    ) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        """The services of versions 2.0 and 1.0 in the canvas of the asset."""
        services = self.access_services(asset)
        if not services:
            return [], []
        addresses = AccessAddresses(urls.base, asset.id.customer)
        place = (asset.id.space, asset.id.name)
        return (
            [probe_service(addresses, place, services, stub=True)],
            [access_service_1(addresses, each) for each in services],
        )


def _services(urls: PublicUrls, prefix: str, asset: AssetId) -> Services:
    return {version: urls.asset(prefix, version, asset) for version in (2, 3)}


def _thumbnail(
    asset: Asset, sizes: Sequence[Dimensions], urls: PublicUrls, services: Services
) -> Thumbnail:
    """The thumbnail of a canvas: of the public ones the best, which /thumbs answers without a
    token; else the best that the image service has; of an asset without any, a reduced picture.
    """
    public = [size for size in sizes if size in asset.thumbnails.open]
    if public:
        thumbs = _services(urls, "thumbs", asset.id)
        return Thumbnail(min(public, key=_distance), thumbs, public)
    stored = [size for size in sizes if size in asset.thumbnails.auth]
    if stored:
        return Thumbnail(min(stored, key=_distance), services)
    edge = min(THUMBNAIL_EDGE, max(sizes[-1]))
    return Thumbnail(fit_within(asset.dimensions, (edge, edge)), services)


def _distance(size: Dimensions) -> tuple[int, int]:
    """Of two sizes that are equally close, the larger one is better."""
    return abs(max(size) - THUMBNAIL_EDGE), -max(size)
