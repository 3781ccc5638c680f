"""The clients of the chaos run. Each image has one writer, so the order of its changes is known;
readers check every answer against the states that the image can have.
"""

from __future__ import annotations

import io
import math
import random
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from http.client import HTTPException

import numpy as np
from PIL import Image

from tests.support.chaos.site import PICTURES, Site, colour_of, width_of
from tests.support.serve_process import Reply, fetch, wait_until

GRACE_S = 20.0
"""A change that was accepted just before its processes or the database were killed or stopped
takes effect within this time.
"""
REST_S = 120.0
"""A change is accepted, and a batch ends, within this time after the last fault."""
READ_STATUSES = frozenset((200, 401, 404, 503))
"""Restricted, absent, and a dependency that does not answer."""
WRITE_STATUSES = frozenset((200, 201, 202, 404, 409, 502, 503, 504))
"""409: a later change replaced this one. 502, 504: the origin failed or took too long."""
DONE, GONE = frozenset((200, 201)), frozenset((200, 404))
REQUESTS = ("info.json", "0,0,256,256/256,256/0/default.jpg", "full/200,/0/default.jpg")
PUBLIC, RESTRICTED = "public", "restricted"
ABSENT = None


class Possible:
    """The values that a property of an image can have now, or had a moment ago."""

    def __init__(self, value: Hashable) -> None:
        self._until = {value: math.inf}
        self._lock = threading.Lock()

    def begin(self, value: Hashable) -> None:
        """From now on it can be `value`, too."""
        with self._lock:
            self._until[value] = math.inf

    def settle(self, value: Hashable) -> None:
        """It is `value`: other values may be seen only for GRACE_S more."""
        end = time.monotonic() + GRACE_S
        with self._lock:
            for other in self._until:
                if other != value:
                    self._until[other] = min(self._until[other], end)

    def allows(self, value: Hashable, since: float) -> bool:
        """True if a request that began at `since` may see `value`."""
        with self._lock:
            return self._until.get(value, -math.inf) > since


@dataclass
class ChaosImage:
    """An image: what it can show, and what was accepted last."""

    name: str
    content: Possible = field(default_factory=lambda: Possible(ABSENT))
    rights: Possible = field(default_factory=lambda: Possible(PUBLIC))
    last_content: int | None = ABSENT
    last_rights: str = PUBLIC
    batch: int | None = None
    """The batch of the last accepted ingest, if its end was not seen."""

    @property
    def path(self) -> str:
        """Its path in the management API."""
        return f"/customers/1/spaces/1/images/{self.name}"


class Actor(threading.Thread):
    """A client in a thread. `faults` are the answers that must not be."""

    def __init__(self, site: Site, dice: random.Random, rest: threading.Event) -> None:
        super().__init__(daemon=True)
        self.site, self.dice, self.rest = site, dice, rest
        self.faults: list[str] = []

    def run(self) -> None:
        """Act until the rest begins."""
        try:
            while not self.rest.is_set():
                self.act()
        except BaseException as error:
            self.faults.append(f"{type(self).__name__}: {error!r}")
            raise

    def act(self) -> None:
        """One action."""
        raise NotImplementedError

    def fault(self, text: str) -> None:
        """Record an answer that must not be."""
        self.faults.append(f"{time.strftime('%H:%M:%S')} {text}")


class Writer(Actor):
    """Changes its images, one change at a time. Every change is repeated until it is accepted."""

    def __init__(self, site: Site, dice: random.Random, rest: threading.Event, prefix: str) -> None:
        super().__init__(site, dice, rest)
        self.images = [ChaosImage(f"{prefix}-{number}") for number in range(3)]
        self.accepted = 0
        self.batches: list[int] = []
        self._rested_at = time.monotonic()
        self.unanswered = 0
        """Batches that may have been recorded, although no answer came."""

    def act(self) -> None:
        """Make one change to one image."""
        image = self.dice.choice(self.images)
        actions = [self._put, self._put, self._post_batch, self._patch, self._remove]
        self.dice.choice(actions)(image)
        self.accepted += 1

    def _put(self, image: ChaosImage) -> None:
        picture, rights = self.dice.randrange(PICTURES), self._rights()
        image.content.begin(picture)
        image.rights.begin(rights)
        self._until(DONE, "PUT", image.path, self._body(picture, rights))
        self._settle(image, picture, rights)

    def _post_batch(self, image: ChaosImage) -> None:
        """A batch of one image; every second time, the next change does not wait for its end."""
        picture, rights = self.dice.randrange(PICTURES), self._rights()
        image.content.begin(picture)
        image.rights.begin(rights)
        member = {"id": image.name, "space": 1, **self._body(picture, rights)}
        path = "/customers/1/queue"
        reply = self._until(
            frozenset((201,)), "POST", path, {"member": [member]}, self._count_unanswered
        )
        number = int(reply.json["id"])
        self.batches.append(number)
        image.last_content, image.last_rights = picture, rights
        image.batch = number
        if self.dice.random() < 0.5:
            self.finish(image)

    def finish(self, image: ChaosImage) -> None:
        """Wait for the batch that is to make the image; where it failed for good, as an origin may
        be away for longer than there are attempts, put the image.
        """
        if image.batch is None:
            return
        batch = self.wait_for_batch(image.batch)
        if batch["completed"]:
            self._settle(image, image.last_content, image.last_rights)
        else:
            self._put(image)

    def _patch(self, image: ChaosImage) -> None:
        if image.last_content is ABSENT:
            return
        rights = self._rights()
        image.rights.begin(rights)
        body = {"roles": _roles(rights)}
        self._until(frozenset((200,)), "PATCH", image.path, body)
        image.last_rights = rights
        image.rights.settle(rights)

    def _remove(self, image: ChaosImage) -> None:
        image.content.begin(ABSENT)
        self._until(GONE, "DELETE", image.path)
        image.last_content, image.batch = ABSENT, None
        image.content.settle(ABSENT)

    def wait_for_batch(self, number: int) -> dict[str, int]:
        """The batch when it is finished."""
        path = f"/customers/1/queue/batches/{number}"
        while self._has_time():
            reply = self.site.ask("GET", path)
            if reply is not None and reply.status == 200 and reply.json["finished"]:
                return dict(reply.json)
            time.sleep(0.3)
        raise AssertionError(f"batch {number} does not end: {reply and reply.body!r}")

    def _has_time(self) -> bool:
        """True while there are faults, and for REST_S after the last one."""
        if not self.rest.is_set():
            self._rested_at = time.monotonic()
        return time.monotonic() < self._rested_at + REST_S

    def _until(
        self,
        wanted: frozenset[int],
        method: str,
        path: str,
        body: object = None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Repeat a request until it has one of the wanted statuses."""
        statuses: list[int] = []
        while self._has_time():
            reply = self.site.ask(method, path, body)
            if reply is not None and reply.status in wanted:
                return reply
            on_failure()
            if reply is not None:
                statuses.append(reply.status)
                if reply.status not in WRITE_STATUSES:
                    self.fault(f"{method} {path}: {reply.status} {reply.body[:300]!r}")
            time.sleep(0.3)
        raise AssertionError(f"{method} {path} is not accepted without faults: {statuses}")

    def _count_unanswered(self) -> None:
        self.unanswered += 1

    def _body(self, picture: int, rights: str) -> dict[str, object]:
        return {"origin": self.site.origin_of(picture), "roles": _roles(rights)}

    def _rights(self) -> str:
        return self.dice.choice((PUBLIC, RESTRICTED))

    def _settle(self, image: ChaosImage, picture: int | None, rights: str) -> None:
        image.last_content, image.last_rights, image.batch = picture, rights, None
        image.content.settle(picture)
        image.rights.settle(rights)


class Reader(Actor):
    """Reads images with and without a token."""

    def __init__(
        self,
        site: Site,
        dice: random.Random,
        rest: threading.Event,
        images: list[ChaosImage],
    ) -> None:
        super().__init__(site, dice, rest)
        self._images = images
        self.pictures = 0

    def act(self) -> None:
        """Send one request and check the answer."""
        image, request = self.dice.choice(self._images), self.dice.choice(REQUESTS)
        has_token = self.dice.random() < 0.4
        since = time.monotonic()
        try:
            reply = read(self.site, image, request, has_token=has_token)
        except (OSError, HTTPException):
            time.sleep(0.1)
            return
        if fault := _fault_of(reply, image, request, since, has_token=has_token):
            self.fault(f"{image.name}/{request}, token {has_token}: {fault}")
        self.pictures += reply.status == 200
        time.sleep(self.dice.uniform(0, 0.05))


def read(site: Site, image: ChaosImage, request: str, *, has_token: bool) -> Reply:
    """One answer for an image. Raises OSError, HTTPException."""
    headers = {"Authorization": f"Bearer {site.token}"} if has_token else {}
    url = f"{site.server.public}/iiif/3/1%2F1%2F{image.name}/{request}"
    return fetch(url, timeout_s=30, **headers)


def picture_in(reply: Reply, request: str) -> int:
    """The number of the picture that an answer with status 200 shows; -1 for none of them."""
    if request == "info.json":
        return next((n for n in range(PICTURES) if width_of(n) == reply.json["width"]), -1)
    with Image.open(io.BytesIO(reply.body)) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.int16)
    distances = [int(np.abs(pixels - colour_of(number)).max()) for number in range(PICTURES)]
    nearest = int(np.argmin(distances))
    return nearest if distances[nearest] < 12 else -1


def _fault_of(
    reply: Reply, image: ChaosImage, request: str, since: float, *, has_token: bool
) -> str:
    """What is wrong with an answer, "" for nothing."""
    status = reply.status
    if status not in READ_STATUSES:
        return f"status {status} {reply.body[:300]!r}"
    if status == 503 and "retry-after" not in reply.headers:
        return "503 without Retry-After"
    if status == 404 and not image.content.allows(ABSENT, since):
        return "404 for an image that is there"
    if status == 401 and (has_token or not image.rights.allows(RESTRICTED, since)):
        return "401 for an image that may be seen"
    if status != 200:
        return ""
    picture = picture_in(reply, request)
    if not image.content.allows(picture, since):
        return f"shows picture {picture}, last accepted {image.last_content}"
    is_open = has_token or request == "info.json" or image.rights.allows(PUBLIC, since)
    return "" if is_open else "200 for a restricted image"


def _roles(rights: str) -> list[str]:
    return ["staff"] if rights == RESTRICTED else []


def check_end(site: Site, writers: list[Writer]) -> None:
    """After the rest: every batch ended once, no job is left, and every image has the picture and
    the rights that were accepted last.
    """
    for writer in writers:
        for image in writer.images:
            writer.finish(image)
    batches = [(writer, number) for writer in writers for number in writer.batches]
    for writer, number in batches:
        batch = writer.wait_for_batch(number)
        ended = batch["completed"] + batch["errors"] + batch["superseded"]
        assert (batch["count"], ended, batch["remaining"]) == (1, 1, 0), batch

    def is_idle() -> bool:
        reply = site.ask("GET", "/customers/1/queue")
        return reply is not None and reply.status == 200 and reply.json["size"] == 0

    wait_until(is_idle, "no job is left", 120)
    listed = site.ask("GET", "/customers/1/queue/batches?limit=1000")
    assert listed is not None
    recorded = len(listed.json["batches"])
    unanswered = sum(writer.unanswered for writer in writers)
    assert len(batches) <= recorded <= len(batches) + unanswered
    for writer in writers:
        for image in writer.images:
            _check_image(site, image)


def _check_image(site: Site, image: ChaosImage) -> None:
    """The state after the last job, which every process knows within seconds."""
    seen: list[object] = []

    def is_right() -> bool:
        shown = site.ask("GET", image.path)
        assert shown is not None
        with_token = read(site, image, REQUESTS[1], has_token=True)
        without = read(site, image, REQUESTS[1], has_token=False)
        seen[:] = [shown.status, with_token.status, without.status]
        if image.last_content is ABSENT:
            return (with_token.status, without.status) == (404, 404)
        if with_token.status != 200 or shown.status != 200:
            return False
        seen.extend((picture_in(with_token, REQUESTS[1]), shown.json["roles"]))
        expected = 401 if image.last_rights == RESTRICTED else 200
        return (
            (with_token.status, without.status) == (200, expected)
            and seen[-2] == image.last_content
            and shown.json["roles"] == _roles(image.last_rights)
        )

    what = f"{image.name} has {image.last_content} and is {image.last_rights}"
    try:
        wait_until(is_right, what, GRACE_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {seen}") from None
