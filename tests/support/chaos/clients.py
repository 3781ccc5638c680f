"""The clients of the chaos run. Each image has one writer, so the order of its changes is known;
readers check every answer against the states in which the image can be.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException

from tests.support.chaos.chaos_pictures import PICTURES, Region, picture_of_width
from tests.support.chaos.image_states import ABSENT, PUBLIC, RESTRICTED, ChaosImage, State
from tests.support.chaos.site import ANSWER_S, Site
from tests.support.serve_process import Reply, fetch

REST_S = 300.0
"""A change is accepted, and a batch ends, within this time after the last fault."""
READ_STATUSES = frozenset((200, 401, 404, 503))
"""Restricted, absent, and a dependency that does not answer."""
INGEST_STATUSES = frozenset((200, 201, 409, 502, 503, 504))
"""409: a later change replaced this one. 502, 504: the origin failed or took too long."""
WRITE_STATUSES: Mapping[str, frozenset[int]] = {
    "PUT": INGEST_STATUSES,
    "POST": frozenset((201, 503)),
    "PATCH": frozenset((200, 409, 503)),
    "DELETE": frozenset((200, 404, 503)),
    "GET": frozenset((200, 503)),
}
DONE, GONE = frozenset((200, 201)), frozenset((200, 404))
HOW_OFTEN = (8, 4, 2, 1)
"""How often each image of a writer is changed: some change all the time, one is left alone for
longer than GRACE_S, after which only one state is right.
"""


@dataclass(frozen=True)
class Read:
    """A request for an image: the URL of the image, and what of it the answer shows."""

    base: str
    rest: str
    region: Region | None = None

    @property
    def is_thumbnail(self) -> bool:
        """True for /thumbs, which shows only what is public, to every client."""
        return self.base.startswith("thumbs")


_IIIF = "iiif/3/1%2F1%2F"
TILE = Read(_IIIF, "0,0,256,256/256,256/0/default.jpg", (0, 0, 256, 256))
THUMBNAIL = Read("thumbs/1/1/", "full/200,/0/default.jpg")
READS = (
    TILE,
    THUMBNAIL,
    Read(_IIIF, "info.json"),
    Read(_IIIF, "256,128,256,256/128,128/0/default.jpg", (256, 128, 256, 256)),
    Read(_IIIF, "full/200,/0/default.jpg"),
    Read(_IIIF, "full/max/0/default.jpg"),
    Read("iiif/2/1%2F1%2F", "full/150,/0/default.png"),
    Read("iiif-img/1/1/", "300,100,100,100/max/0/default.jpg", (300, 100, 100, 100)),
    Read("thumbs/1/1/", "info.json"),
    Read("thumbs/1/1/", "full/max/0/default.jpg"),
    Read("thumbs/v2/1/1/", "full/!100,100/0/default.jpg"),
)


class Client(threading.Thread):
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
        except Exception as error:  # it fails the run, as a wrong answer does
            self.fault(f"{type(self).__name__}: {error!r}")

    def act(self) -> None:
        """One action."""
        raise NotImplementedError

    def fault(self, text: str) -> None:
        """Record an answer that must not be."""
        self.faults.append(f"{time.strftime('%H:%M:%S')} {text}")


class Writer(Client):
    """Changes its images, one change at a time. Every change is repeated until it is accepted."""

    def __init__(self, site: Site, dice: random.Random, rest: threading.Event, prefix: str) -> None:
        super().__init__(site, dice, rest)
        self.images = [ChaosImage(f"{prefix}-{number}") for number in range(len(HOW_OFTEN))]
        self.accepted = 0
        self.batches: list[int] = []
        self.unclear = 0
        """Batches that may have been recorded, although the answer was not 201."""

    def act(self) -> None:
        """Make one change to one image."""
        (image,) = self.dice.choices(self.images, HOW_OFTEN)
        actions = [self._put, self._put, self._post_batch, self._patch, self._remove]
        self.dice.choice(actions)(image)
        self.accepted += 1

    def finish(self, image: ChaosImage) -> None:
        """Wait for the batch that is to make the image; where it failed for good, as an origin may
        be away for longer than there are attempts, put the image.
        """
        if image.batch is None:
            return
        batch = self.wait_for_batch(image.batch)
        if batch["completed"] == batch["count"]:
            image.settle(image.last)
        else:
            self._put(image)

    def wait_for_batch(self, number: int) -> dict[str, int]:
        """The batch when it is finished."""
        path = f"/customers/1/queue/batches/{number}"

        def is_finished(reply: Reply) -> bool:
            return reply.status == 200 and reply.json["finished"] is not None

        return dict(self._repeat("GET", path, is_finished).json)

    def _put(self, image: ChaosImage) -> None:
        state = self._new_state()
        image.states.begin(state)
        self._repeat("PUT", image.path, _is(DONE), _body(self.site, state))
        image.settle(state)

    def _post_batch(self, image: ChaosImage) -> None:
        """A batch of one image; every second time, the next change does not wait for its end."""
        self.post([image])
        if self.dice.random() < 0.5:
            self.finish(image)

    def post(self, images: list[ChaosImage]) -> None:
        """Post a batch that changes these images."""
        states = [self._new_state() for _ in images]
        for image, state in zip(images, states, strict=True):
            image.states.begin(state)
        members = [
            {"id": image.name, "space": 1, **_body(self.site, state)}
            for image, state in zip(images, states, strict=True)
        ]
        path, is_recorded = "/customers/1/queue", _is(frozenset((201,)))
        reply = self._repeat("POST", path, is_recorded, {"member": members}, self._count_unclear)
        number = int(reply.json["id"])
        self.batches.append(number)
        for image, state in zip(images, states, strict=True):
            image.last, image.batch = state, number

    def _patch(self, image: ChaosImage) -> None:
        if image.last is None:
            return
        rights = self.dice.choice((PUBLIC, RESTRICTED))
        image.states.begin_rights(rights)
        body = {"roles": roles_of(rights)}
        self._repeat("PATCH", image.path, _is(frozenset((200,))), body)
        image.last = image.last[0], rights
        image.states.settle_rights(rights)

    def _remove(self, image: ChaosImage) -> None:
        image.states.begin(ABSENT)
        self._repeat("DELETE", image.path, _is(GONE))
        image.settle(ABSENT)

    def _count_unclear(self) -> None:
        self.unclear += 1

    def _new_state(self) -> tuple[int, str]:
        return self.dice.randrange(PICTURES), self.dice.choice((PUBLIC, RESTRICTED))

    def _repeat(
        self,
        method: str,
        path: str,
        is_accepted: Callable[[Reply], bool],
        body: object = None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Repeat a request until it is accepted, for REST_S after the faults are over. Returns the
        answer.
        """
        statuses: list[int | None] = []
        rested_at = time.monotonic()
        while True:
            is_resting = self.rest.is_set()
            reply = self.site.ask(method, path, body)
            if reply is not None and is_accepted(reply):
                return reply
            on_failure()
            if reply is not None:
                self._check(method, path, reply)
            statuses.append(reply and reply.status)
            if not is_resting:
                rested_at = time.monotonic()
            elif time.monotonic() > rested_at + REST_S:
                last = reply and reply.body[:300]
                text = f"{method} {path} is not accepted without faults: {statuses[-50:]} {last!r}"
                raise AssertionError(text)
            time.sleep(0.3)

    def _check(self, method: str, path: str, reply: Reply) -> None:
        if reply.status not in WRITE_STATUSES[method]:
            self.fault(f"{method} {path}: {reply.status} {reply.body[:300]!r}")
        elif reply.status == 503 and "retry-after" not in reply.headers:
            self.fault(f"{method} {path}: 503 without Retry-After")


class BatchWriter(Writer):
    """Posts batches, one before the other is done: at every moment jobs wait and run, so that every
    killed process that runs jobs had some.
    """

    def act(self) -> None:
        """Change half of the images, while the batch of the others is in progress."""
        half, self.images = self.images[:2], [*self.images[2:], *self.images[:2]]
        for image in half:
            self.finish(image)
        self.post(half)
        self.accepted += 1


def _is(statuses: frozenset[int]) -> Callable[[Reply], bool]:
    return lambda reply: reply.status in statuses


def _body(site: Site, state: tuple[int, str]) -> dict[str, object]:
    picture, rights = state
    return {"origin": site.origin_of(picture), "roles": roles_of(rights)}


def roles_of(rights: str) -> list[str]:
    """The roles that may see an image with these rights; none: every client may."""
    return ["staff"] if rights == RESTRICTED else []


class Reader(Client):
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
        self.seen: Counter[str] = Counter()
        """Answers with status 200, by the route."""

    def act(self) -> None:
        """Send one request and check the answer."""
        image, request = self.dice.choice(self._images), self.dice.choice(READS)
        has_token = self.dice.random() < 0.4
        began = time.monotonic()
        try:
            reply = read(self.site, image, request, has_token=has_token)
        except (OSError, HTTPException) as error:  # of a process that was killed
            if time.monotonic() - began > ANSWER_S:
                self.fault(f"{image.name}/{request.rest}: no answer within {ANSWER_S} s: {error!r}")
            time.sleep(0.1)
            return
        if fault := _fault_of(self.site, reply, image, request, began, has_token=has_token):
            self.fault(
                f"{request.base}{image.name}/{request.rest}, token {has_token}: {fault};"
                f" from {reply.headers.get('x-served-from')}"
            )
        if reply.status == 200:
            self.seen[request.base.split("/")[0]] += 1
        time.sleep(self.dice.uniform(0, 0.05))


def read(site: Site, image: ChaosImage, request: Read, *, has_token: bool) -> Reply:
    """One answer for an image. Raises OSError, HTTPException."""
    headers = {"Authorization": f"Bearer {site.token}"} if has_token else {}
    url = f"{site.server.public}/{request.base}{image.name}/{request.rest}"
    return fetch(url, timeout_s=ANSWER_S, **headers)


def picture_in(site: Site, reply: Reply, request: Read) -> int | None:
    """The picture that an answer with status 200 shows; None for none of them, or for another part
    of one than was requested.
    """
    if request.rest == "info.json":
        return picture_of_width(reply.json["width"])
    return site.known.picture_of(f"{request.base} {request.rest}", reply.body, request.region)


def _fault_of(
    site: Site, reply: Reply, image: ChaosImage, request: Read, since: float, *, has_token: bool
) -> str:
    """What is wrong with an answer, "" for nothing."""
    status, states = reply.status, image.states
    may_see_all = has_token and not request.is_thumbnail
    if status not in READ_STATUSES:
        return f"status {status} {reply.body[:300]!r}"
    if status == 503 and "retry-after" not in reply.headers:
        return "503 without Retry-After"
    if status == 404 and not states.allows(since, None):
        return "404 for an image that is there"
    if status == 401 and (may_see_all or not states.allows_restricted(since)):
        return "401 for an image that may be seen"
    if status != 200:
        return ""
    try:
        picture = picture_in(site, reply, request)
    except (OSError, ValueError) as error:
        return f"not whole: {error!r}"
    if picture is None or not states.allows(since, picture):
        return f"shows picture {picture}, last accepted {image.last}"
    is_open = may_see_all or states.allows(since, picture, PUBLIC)
    return "" if is_open else f"200 for a restricted image, last accepted {image.last}"


def check_state(site: Site, image: ChaosImage, state: State) -> list[str]:
    """What is wrong with an image that must be in this state, one line for each request."""
    shown = site.ask("GET", image.path)
    if shown is None:
        return ["no answer"]
    faults = []
    if state is None and shown.status != 404:
        faults.append(f"GET {shown.status}")
    if state is not None and (shown.status, shown.status == 200 and shown.json["roles"]) != (
        200,
        roles_of(state[1]),
    ):
        faults.append(f"GET {shown.status} {shown.body[:300]!r}")
    for request in READS:
        for has_token in (True, False):
            may_see = has_token and not request.is_thumbnail
            expected = 404 if state is None else 200 if may_see or state[1] == PUBLIC else 401
            reply = read(site, image, request, has_token=has_token)
            seen = picture_in(site, reply, request) if reply.status == 200 else None
            if reply.status != expected or (state and expected == 200 and seen != state[0]):
                line = f"{request.base} {request.rest} token {has_token}: {reply.status} {seen}"
                faults.append(line)
    return faults
