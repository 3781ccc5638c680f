"""The addresses in manifests and collections, by the path template of the host."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.iiif.paths import ASSET_PREFIXES, ImagePath, encode_identifier
from orchestrator.model import AssetId
from orchestrator.web.public_address import PublicAddress

IMAGE_PREFIX = ASSET_PREFIXES[0]


@dataclass(frozen=True, slots=True)
class DocumentUrls:
    """The addresses in the documents of one request (`manifests.canvases.PublicUrls`)."""

    address: PublicAddress
    default_version: int
    """The version of the Image API that a path without a version has."""

    @property
    def base(self) -> str:
        """Scheme, host, port and the path that a proxy adds, without a slash at the end."""
        return self.address.base

    def asset(self, prefix: str, version: int | None, asset: AssetId) -> str:
        """The address of the asset on a route, with the customer's number.

        A template without `{prefix}` is that of the image routes alone, and one without `{version}`
        that of the default version alone: other addresses would be the same as these.
        """
        path = ImagePath(prefix, version, str(asset), ())
        template = self.address.template
        if "{prefix}" not in template and prefix != IMAGE_PREFIX:
            return self.base + path.base
        if "{version}" not in template and version not in (None, self.default_version):
            return self.base + path.base
        return self._by_template(path)

    def requested(self, path: ImagePath) -> str:
        """The address of the requested document, with the customer as in the request."""
        if "{prefix}" not in self.address.template:
            return self.base + path.base
        return self._by_template(path)

    def _by_template(self, path: ImagePath) -> str:
        customer, space, _ = path.identifier.split("/", 2)
        return self.address.url(
            prefix=path.prefix,
            version=path.version,
            customer=encode_identifier(customer),
            space=space,
            asset_path=path.base.rpartition("/")[2],
            native=path.base,
        )
