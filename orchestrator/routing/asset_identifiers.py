"""The asset that the identifier in a path names."""

from __future__ import annotations

from orchestrator.errors import AssetNotFound
from orchestrator.iiif.paths import IDENTIFIER_PREFIX, ImagePath
from orchestrator.model import AssetId
from orchestrator.routing.name_cache import NameCache


class AssetIdentifiers:
    """Resolves identifiers: the text form of an asset id, the same with a customer's name in place
    of the number, or an alias.
    """

    def __init__(self, names: NameCache, default_space: str) -> None:
        """`default_space` is `customer/space` of the names below /iiif/ that are no alias."""
        self._names = names
        self._default_space = default_space

    def at_hand(self, path: ImagePath) -> AssetId | None:
        """Return the id of the asset if no name has to be looked up for it, else None. Raises
        InvalidImageRequest for numbers and names that no asset can have.
        """
        customer, _, rest = path.identifier.partition("/")
        space, _, name = rest.partition("/")
        if not (name and space.isdigit() and customer.isascii() and customer.isdigit()):
            return None
        return AssetId.parse(path.identifier)

    async def resolve(self, path: ImagePath) -> AssetId:
        """Return the id of the asset, which need not exist. Raises AssetNotFound for an unknown
        customer, InvalidImageRequest and CatalogUnavailable.
        """
        text = path.identifier
        customer, _, rest = text.partition("/")
        space, _, name = rest.partition("/")
        if name and space.isdigit():
            return AssetId.parse(f"{await self._names.customer(customer)}/{rest}")
        found = await self._names.asset_of_alias(text)
        if found is not None:
            return found
        if rest or path.prefix != IDENTIFIER_PREFIX:
            raise AssetNotFound("There is no such asset. Check the identifier.")
        default = self._default_space.split("/")
        return AssetId(int(default[0]), int(default[1]), text)
