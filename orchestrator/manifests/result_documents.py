"""Manifests and collections of many assets, written piece by piece.

The assets of one document are at most `manifests.page_size`; a larger result is a collection of
such documents. The ETag is computed from what the viewer may know of each asset, before anything is
written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from orchestrator.iiif.access_services import AccessAddresses, AccessService, access_service
from orchestrator.iiif.presentation.presentation_input import (
    CollectionInput,
    ManifestInput,
    Reference,
)
from orchestrator.iiif.presentation.versions import PRESENTATION_VERSIONS
from orchestrator.loop_turns import in_turns
from orchestrator.manifests.canvases import CanvasBuilder, Viewing, visible_edge
from orchestrator.manifests.json_frame import JsonFrame
from orchestrator.model import Asset


@dataclass(frozen=True, slots=True)
class DocumentHead:
    """What a document says of itself. `version` is that of the Presentation API."""

    id: str
    label: str
    version: int
    part_of: Reference | None = None


@dataclass(frozen=True, slots=True)
class DocumentForm:
    """In which form a result is wanted. `url` is the address of the whole result, `in_path` the
    version that the address has, None for none.
    """

    url: str
    version: int
    viewing: Viewing
    in_path: int | None = None

    def head(self, label: str, part_of: Reference | None = None) -> DocumentHead:
        """The head of the document about the whole result."""
        return DocumentHead(self.url, label, self.version, part_of)


def page_head(whole: DocumentHead, page: int, size: int, count: int) -> DocumentHead:
    """The head of a page, from 1, with `count` assets; `size` is that of a full page."""
    return DocumentHead(
        f"{whole.id}?page={page}",
        _page_label(whole.label, (page - 1) * size, count),
        whole.version,
        Reference(whole.id, whole.label, "Collection"),
    )


def page_references(
    whole: DocumentHead,
    count: int,
    size: int,
    kind: Literal["Manifest", "Collection"] = "Manifest",
) -> list[Reference]:
    """The pages of a result with `count` assets, as members of a collection."""
    return [
        Reference(
            f"{whole.id}?page={start // size + 1}",
            _page_label(whole.label, start, min(size, count - start)),
            kind,
        )
        for start in range(0, count, size)
    ]


def _page_label(label: str, start: int, count: int) -> str:
    return f"{label} ({start + 1}-{start + count})"


@dataclass(frozen=True, slots=True)
class ResultDocument:
    """A document that is ready to be written. `digest` identifies its content."""

    pieces: Iterator[bytes]
    digest: str


class ResultDocuments:
    """Builds the documents of results."""

    def __init__(self, builder: CanvasBuilder) -> None:
        self._builder = builder

    async def manifest(
        self, head: DocumentHead, assets: Sequence[Asset], viewing: Viewing, *, first: int = 1
    ) -> ResultDocument:
        """The manifest of at least one asset. `first` is the position of the first one in the whole
        result, from 1.
        """
        api = PRESENTATION_VERSIONS[head.version]
        facts = ManifestInput(
            id=head.id,
            label=head.label,
            thumbnail=next(
                (
                    self._builder.thumbnail(asset, viewing)
                    for asset in assets
                    if visible_edge(asset, viewing.covers) != 0
                ),
                None,
            ),
            services=self._access(assets, viewing),
            is_restricted=any(self._builder.access_services(asset) for asset in assets),
            part_of=head.part_of,
        )

        def canvases() -> Iterator[dict[str, Any]]:
            for position, asset in enumerate(assets, first):
                yield api.canvas(self._builder.build(asset, position, viewing))

        return await self._document(
            api.manifest(facts), canvases(), assets, viewing, next(canvases())
        )

    async def members(
        self, head: DocumentHead, assets: Sequence[Asset], form: DocumentForm
    ) -> ResultDocument:
        """The collection of the manifests of single assets that the viewer may see something of.
        Their addresses have a version if that of the collection has one.
        """
        viewing = form.viewing
        api = PRESENTATION_VERSIONS[head.version]
        facts = CollectionInput(head.id, head.label, "Manifest", head.part_of)
        shown = [each for each in assets if visible_edge(each, viewing.covers) != 0]

        def members() -> Iterator[dict[str, Any]]:
            for asset in shown:
                yield api.member(
                    Reference(
                        viewing.urls.asset("iiif-manifest", form.in_path, asset.id),
                        self._builder.label(asset, 1),
                        thumbnail=self._builder.thumbnail(asset, viewing),
                    )
                )

        first = next(members(), {})
        return await self._document(api.collection(facts), members(), shown, viewing, first)

    def collection(self, head: DocumentHead, members: Sequence[Reference]) -> ResultDocument:
        """A collection of other documents, which all have the type of the first one."""
        api = PRESENTATION_VERSIONS[head.version]
        kind = members[0].type if members else "Collection"
        frame = JsonFrame.of(
            api.collection(CollectionInput(head.id, head.label, kind, head.part_of))
        )
        digest = hashlib.blake2b(frame.before, digest_size=12)
        for each in members:
            digest.update(orjson.dumps([each.id, each.label]))
        written = (api.member(each) for each in members)
        return ResultDocument(frame.pieces(written), digest.hexdigest())

    async def _document(
        self,
        document: dict[str, Any],
        members: Iterable[dict[str, Any]],
        assets: Sequence[Asset],
        viewing: Viewing,
        example: dict[str, Any],
    ) -> ResultDocument:
        """The document with a digest. `example` is its first member: it depends on the settings and
        on the release as the others do.
        """
        frame = JsonFrame.of(document)
        digest = hashlib.blake2b(frame.before, digest_size=12)
        digest.update(orjson.dumps(example))
        async for asset in in_turns(assets):
            digest.update(orjson.dumps(self._visible_facts(asset, viewing)))
        return ResultDocument(frame.pieces(members), digest.hexdigest())

    def _visible_facts(self, asset: Asset, viewing: Viewing) -> list[object]:
        """All that the canvas of the asset depends on, and nothing else."""
        edge = visible_edge(asset, viewing.covers)
        services = [each.name for each in self._builder.access_services(asset)]
        facts: list[object] = [str(asset.id), services, edge]
        if edge != 0:
            facts += (asset.dimensions, asset.thumbnails.open, asset.thumbnails.auth)
            facts += (asset.strings, asset.numbers, asset.tags, asset.rights)
        return facts

    def _access(self, assets: Sequence[Asset], viewing: Viewing) -> list[dict[str, Any]]:
        """The access services of all assets, each once."""
        services: dict[tuple[int, str], AccessService] = {}
        for asset in assets:
            for each in self._builder.access_services(asset):
                services.setdefault((asset.id.customer, each.name), each)
        return [
            access_service(AccessAddresses(viewing.urls.base, customer), each)
            for (customer, _), each in services.items()
        ]
