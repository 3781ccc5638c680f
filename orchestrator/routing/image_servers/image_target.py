"""The path and query of an image on a node: which file it is of, and which part of it. Pure."""

from __future__ import annotations

from urllib.parse import quote

from orchestrator.iiif.geometry import ResolvedImage
from orchestrator.routing.image_servers.request_form import request_path
from orchestrator.settings import ImageServerPool

_TEMPLATES = {
    "cantaloupe": "/iiif/3/{path}/{image}",
    "iipimage": "/fcgi-bin/iipsrv.fcgi?IIIF={path}/{image}",
}


def image_target(settings: ImageServerPool, name: str, image: ResolvedImage) -> str:
    """The target of `image` of the source `name`: a path below the nodes' folder of sources, or the
    key of an object.
    """
    return template_of(settings).format(
        path=identifier_of(settings, name), image=request_path(image)
    )


def document_target(settings: ImageServerPool, name: str) -> str:
    """The target of the info document of a source."""
    return template_of(settings).format(path=identifier_of(settings, name), image="info.json")


def identifier_of(settings: ImageServerPool, name: str) -> str:
    """A source as the nodes identify it, percent-encoded as one segment of a path (for IIPImage as
    several).
    """
    if settings.slash_substitute:
        name = name.replace("/", settings.slash_substitute)
    return quote(name, safe="/" if settings.kind == "iipimage" else "")


def name_on_nodes(settings: ImageServerPool, path: str) -> str:
    """A source file of this host as the nodes name it: below `sources_root` if that is set."""
    root = settings.sources_root.rstrip("/")
    if root and path.startswith(f"{root}/"):
        return path.removeprefix(root).lstrip("/")
    return path


def template_of(settings: ImageServerPool) -> str:
    """The path of images, for the newest version of the Image API that the pool has."""
    templates = settings.path_templates
    newest = templates.get("3") or templates.get("2")
    return newest or settings.path_template or _TEMPLATES[settings.kind]
