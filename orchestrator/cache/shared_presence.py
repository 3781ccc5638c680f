"""A process's presence in a folder shared by several hosts: which folder it is, that this process
lives, what it uses, what it holds.

Said every second; who has not said so for some seconds is dead, and what it was writing is void.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import uuid
from contextlib import suppress

from orchestrator.cache.disk.cache import DiskOptions
from orchestrator.cache.shared_room import Room
from orchestrator.catalog.shared_files import FolderUnknown, Key, SharedFiles
from orchestrator.errors import CatalogUnavailable, NoRoom, OrchestratorError

log = logging.getLogger(__name__)

ALIVE_S = 5.0
"""Who has not said for so long that it lives is dead."""
BEAT_S = 1.0
_ID = ".folder"


class Presence:
    """Of this process, in the folder of `room`."""

    def __init__(self, room: Room, files: SharedFiles, options: DiskOptions) -> None:
        self.host = socket.gethostname()
        self.uses: dict[Key, float] = {}
        """When (monotonic seconds) each file was last used, since that was last recorded."""
        self.held: dict[Key, int] = {}
        """How many blocks are reading each file just now."""
        self._room = room
        self._files = files
        self._options = options
        self._flush_due = self._renew_due = 0.0
        self._trouble = ""

    async def keep_up(self) -> None:
        """Beat after beat until cancelled, whatever goes wrong: without them others take this
        process for dead.
        """
        while True:
            try:
                await self.beat()
            except Exception:
                log.exception("shared folder: not beaten")
            await asyncio.sleep(BEAT_S)

    async def beat(self) -> None:
        """Say that this process lives; record what was used; renew the leases of what is held.

        Never fails: what cannot be reached now is not used, and tried again at the next beat.
        """
        try:
            await self._find_folder()
            await self._say_alive()
        except FolderUnknown as error:  # the database is another, or was restored
            self._room.folder = None  # so that the next beat registers it
            self._failed(error)
        except (OSError, OrchestratorError) as error:
            self._failed(error)
        else:
            self._works()

    async def leave(self) -> None:
        """Record what was used and say goodbye."""
        if self._room.folder is not None:
            with suppress(CatalogUnavailable):
                await self.flush()
                await self._files.leave(self._room.folder, self._room.holder)

    async def flush(self) -> None:
        """Record what was used."""
        uses, self.uses = self.uses, {}
        if uses:
            now = time.monotonic()
            ages = {key: now - used for key, used in uses.items()}
            await self._files.record(self._room.id(), ages)

    async def _find_folder(self) -> None:
        """Know which folder is there now; another may be mounted, or none."""
        try:
            found, empty = await asyncio.to_thread(self._identity)
        except (OSError, ValueError) as error:
            self._room.folder = None
            raise NoRoom("The shared folder cannot be reached now.") from error
        if found != self._room.folder:
            await self._files.register(found, empty=empty)
            await self._beat(found)
            self._room.folder = found
            extra = {"folder": str(found), "path": str(self._room.tree.root)}
            log.info("shared folder found", extra=extra)

    def _identity(self) -> tuple[uuid.UUID, bool]:
        """The id in the folder, made by whoever comes first; and whether no asset is in it."""
        tree = self._room.tree
        path = tree.root / _ID
        tree.prepare()
        if not path.exists():
            fresh = tree.temp / f"{self._room.holder}-id"
            fresh.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
            with suppress(FileExistsError):  # linked, not renamed: the first one decides
                path.hardlink_to(fresh)
            fresh.unlink()
        found = uuid.UUID(path.read_text(encoding="ascii").strip())
        return found, found != self._room.folder and next(tree.assets(), None) is None

    async def _say_alive(self) -> None:
        folder, now = self._room.id(), time.monotonic()
        if not await self._beat(folder):
            log.warning("this process was taken for dead", extra={"folder": str(folder)})
        if now >= self._flush_due:
            self._flush_due = now + self._options.use_flush_s
            await self.flush()
        if self.held and now >= self._renew_due:
            self._renew_due = now + self._options.lease_s / 3
            await self._files.lease(folder, list(self.held), self._options.lease_s)

    async def _beat(self, folder: uuid.UUID) -> bool:
        holder, quota = self._room.holder, self._options.quota
        return await self._files.beat(folder, holder, self.host, quota, ALIVE_S)

    def _failed(self, error: BaseException) -> None:
        """Log the first of a row of like failures."""
        cause = error.__cause__ or error
        if type(cause).__name__ != self._trouble:
            self._trouble = type(cause).__name__
            extra = {"path": str(self._room.tree.root), "error": repr(cause)}
            log.warning("shared folder cannot be used", extra=extra)

    def _works(self) -> None:
        if self._trouble:
            self._trouble = ""
            log.info("shared folder used again", extra={"path": str(self._room.tree.root)})
