"""The built-in renderer, which is one of the image servers."""

from __future__ import annotations

from pathlib import Path

from orchestrator import metrics
from orchestrator.errors import Overloaded, TooLarge, Unprocessable
from orchestrator.iiif.geometry import ResolvedImage
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Encoder, Recipe
from orchestrator.imaging.render_cost import estimated_cost
from orchestrator.model import FILE, Asset, SourceKind, file_fingerprint
from orchestrator.routing.image_servers.admission import Admission


class BuiltinImageServer:
    """The libvips renderer in the imaging pool of this process. The caller closes the pool."""

    def __init__(
        self,
        pool: ImagingPool,
        encoder: Encoder,
        admission: Admission | None = None,
        cheap_pixels: int = 0,
    ) -> None:
        """`admission` limits whole images; without it, only the queues of `pool` limit them.
        `cheap_pixels`: see the setting `cache.store_from_pixels`.
        """
        self._pool = pool
        self._encoder = encoder
        self._admission = admission
        self._cheap_pixels = cheap_pixels
        self._in_use = metrics.POOL_IN_USE.labels(pool="imaging")  # 0 before the first request

    async def render(self, asset: Asset, path: Path, image: ResolvedImage) -> bytes:
        """See ImageServer.render."""
        if self._admission is None:
            return await self._render(asset, path, image)
        async with self._admission.admit(asset, image):
            return await self._render(asset, path, image)

    async def _render(self, asset: Asset, path: Path, image: ResolvedImage) -> bytes:
        recipe = recipe_for(asset, path, image, self._encoder)
        metrics.DECODES.labels(kind=recipe.kind).inc()
        try:
            with self._in_use.track_inprogress():
                return await self._pool.render(recipe)
        except (Unprocessable, TooLarge) as error:
            metrics.DECODE_FAILURES.labels(reason=type(error).__name__).inc()
            raise
        except Overloaded:
            metrics.OVERLOADS.labels(pool="imaging").inc()
            raise

    def ready_tile(self, asset: Asset, path: Path, image: ResolvedImage) -> bytes | None:
        """See ImageServer.ready_tile: a tile that a pyramid TIFF stores as JPEG."""
        source = asset.source
        if source is None or source.kind is not SourceKind.PYRAMID_TIFF:
            return None
        recipe = recipe_for(asset, path, image, self._encoder)
        if not source.location.startswith(FILE):
            return self._pool.ready_tile(recipe)
        fingerprint = source.fingerprint
        return self._pool.ready_tile(recipe, lambda s: file_fingerprint(s) == fingerprint)

    def is_cheap(self, asset: Asset, image: ResolvedImage) -> bool:
        """See ImageServer.is_cheap. Only pyramid TIFFs give a part of an image so cheaply."""
        source = asset.source
        if source is None or source.kind is not SourceKind.PYRAMID_TIFF:
            return False
        recipe = recipe_for(asset, Path(), image, self._encoder)
        return estimated_cost(recipe) < self._cheap_pixels

    async def check(self) -> str:
        """Always '': the renderer is part of this process."""
        return ""

    async def close(self) -> None:
        """Nothing to close."""


def recipe_for(asset: Asset, path: Path, image: ResolvedImage, encoder: Encoder) -> Recipe:
    """The imaging recipe for a resolved image of this asset. Raises FileNotFoundError without a
    source.
    """
    source = asset.source
    if source is None:
        raise FileNotFoundError(path)
    return Recipe(
        path=str(path),
        kind=source.kind,
        dimensions=asset.dimensions,
        levels=source.levels,
        region=image.region,
        size=image.size,
        mirror=image.mirror,
        rotation=float(image.rotation),
        quality=image.quality,
        format=image.format,
        encoder=encoder,
    )
