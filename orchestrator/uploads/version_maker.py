"""Makes the resized versions of a picture, in the imaging pool. They are upright and have no
metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from orchestrator.catalog.uploads import Region, UploadDraft
from orchestrator.errors import TooLarge, Unsupported
from orchestrator.imaging.formats.file_type import sniff_file
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Encoder, Probe, Recipe
from orchestrator.settings import Uploads
from orchestrator.settings.convert_arguments import VersionRule, parse_version_rule
from orchestrator.uploads.measured_file import MeasuredFile
from orchestrator.uploads.picture_keys import PictureKey
from orchestrator.uploads.version_plan import VersionPlan, plan_version, rules_digest

Format = Literal["jpg", "png", "gif", "webp", "avif"]
_ANIMATED = frozenset(("gif", "webp"))
_EXTENSIONS = {"jpeg": "jpg", "png": "png", "gif": "gif", "svg": "svg"}
"""The formats that are always accepted, and the extensions of their keys."""
_ACCEPTED = "JPEG, PNG, GIF or SVG"
_AVIF_BRANDS = (b"ftypavif", b"ftypavis")
_HEAD_BYTES = 64


class VersionMaker:
    """Makes versions by the rules of the settings."""

    def __init__(self, pool: ImagingPool, settings: Uploads) -> None:
        self._pool = pool
        self._settings = settings
        self.rules: tuple[VersionRule, ...] = tuple(
            parse_version_rule(**dict(rule)) for rule in settings.resizing
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names (suffixes) of all versions."""
        return tuple(rule.name for rule in self.rules)

    def made_with(self, crop: Region | None) -> str:
        """Identifies what the versions of a picture with this crop are made with."""
        return rules_digest(self.rules, crop)

    def draft(
        self, key: PictureKey, probe: Probe, file: MeasuredFile, *, made_with: str = ""
    ) -> UploadDraft:
        """What is recorded of a new picture."""
        return UploadDraft(
            key.name,
            str(key),
            probe.width,
            probe.height,
            probe.pages,
            file.bytes,
            file.sha256,
            self.names,
            made_with,
        )

    async def probe(self, path: Path) -> Probe:
        """What the picture is; a part of it is decoded. Raises Unsupported for a format that is not
        accepted, Unprocessable, TooLarge, Overloaded.
        """
        probe = await self._pool.probe(path)
        settings = self._settings
        if probe.width * probe.height > settings.max_pixels:
            raise TooLarge(
                f"The picture has more than {settings.max_pixels} pixels. Send a smaller one."
            )
        if probe.pages > settings.max_frames:
            raise TooLarge(
                f"The picture has more than {settings.max_frames} frames. Send one with fewer."
            )
        return probe

    async def make(
        self, key: PictureKey, path: Path, probe: Probe, crop: Region | None
    ) -> dict[PictureKey, bytes]:
        """Every version of the original `key`, whose file is at `path`, by its key. Raises
        Unprocessable, TooLarge, Overloaded.
        """
        return {
            key.of_version(rule.name): await self.make_one(key, path, probe, crop, rule=rule)
            for rule in self.rules
        }

    async def make_one(
        self,
        key: PictureKey,
        path: Path,
        probe: Probe,
        crop: Region | None,
        *,
        rule: VersionRule,
        extension: str = "",
    ) -> bytes:
        """One version; `extension` is that of another format. Raises as `make`."""
        plan = plan_version(rule, probe.dimensions, crop)
        output = extension or key.of_version(rule.name).extension
        recipe = _recipe(path, probe, plan, output)
        if probe.pages > 1 and probe.format in _ANIMATED and output in _ANIMATED:
            return await self._pool.animate(recipe)
        return await self._pool.render(recipe)


def check_accepted(path: Path, formats: Sequence[str]) -> str:
    """The extension of the key of an uploaded file, by its content; `formats` are accepted besides
    the usual ones. Blocking. Raises Unsupported, NotAnImage.
    """
    name = sniff_file(path)
    if name in _EXTENSIONS:
        return _EXTENSIONS[name]
    extension = {"webp": "webp", "tiff": "tif"}.get(name, "")
    if name == "heif":
        with path.open("rb") as file:
            extension = "avif" if file.read(_HEAD_BYTES)[4:12] in _AVIF_BRANDS else "heic"
    if extension and {"tif": "tiff"}.get(extension, extension) in formats:
        return extension
    raise Unsupported(f"{name.upper()} pictures are not accepted. Send {_ACCEPTED}.")


def _recipe(path: Path, probe: Probe, plan: VersionPlan, output: str) -> Recipe:
    quality = plan.quality
    return Recipe(
        str(path),
        probe.kind,
        probe.dimensions,
        probe.levels,
        plan.region,
        plan.size,
        format=output,
        encoder=Encoder(quality, quality, quality, png_compression=min(quality // 10, 9)),
    )
