"""Traces for the cache simulator: read from access logs (docs/access-log.md) or generated.

A trace is never in memory: requests come one by one, as (seconds, key, bytes). A key is 64 bits of
a hash. Lines that the simulated cache does not use are counted by reason.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal

import orjson

from orchestrator.cache.disk.files import rounded

Request = tuple[float, int, int]
"""(time in seconds, key, bytes on disk)."""
CacheName = Literal["derivatives", "sources"]


@dataclass(slots=True)
class LogReader:
    """Reads the requests of an access log that reach a disk cache.

    Derivatives: image requests answered 200, by asset, version and canonical form. Requests that
    the memory tier answered never reached the disk; `memory` includes them. Sources: requests that
    the image server answered, by asset and version; each source has `source_bytes`.
    """

    cache: CacheName = "derivatives"
    memory: bool = False
    source_bytes: int = 30_000_000
    lines: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Lines not used, by reason: `broken` (not a line of an access log), `other`, `memory`."""

    def read(self, lines: Iterable[bytes]) -> Iterator[Request]:
        """The requests in these lines, in order."""
        for line in lines:
            self.lines += 1
            try:
                entry = orjson.loads(line)
                reason = self._reason(entry)
                if not reason:
                    yield self._request(entry)
                    continue
            except (ValueError, KeyError, TypeError, AttributeError):
                reason = "broken"
            self.skipped[reason] += 1

    def _reason(self, entry: dict[str, Any]) -> str:
        """The reason why a line is not used; "" if it is used."""
        is_image = entry["canonical"] and entry["asset"] and entry["method"] == "GET"
        if not is_image or entry["status"] != 200 or entry["bytes"] <= 0:
            return "other"
        if self.cache == "sources":
            return "" if entry["tier"] == "imageserver" else "other"
        return "memory" if entry["tier"] == "memory" and not self.memory else ""

    def _request(self, entry: dict[str, Any]) -> Request:
        name = f"{entry['asset']}\n{entry['version']}"
        size = self.source_bytes
        if self.cache == "derivatives":
            name, size = f"{name}\n{entry['canonical']}", entry["bytes"]
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        at = datetime.fromisoformat(entry["time"]).timestamp()
        return at, int.from_bytes(digest, "big"), rounded(size)


@dataclass(frozen=True, slots=True)
class LongTail:
    """A trace with a long tail and crawlers: `requests` for `objects`, by Zipf's law.

    The part `scanned` of the requests comes from `crawlers`; each of them requests all objects in
    order. The other requests come from people. With each request the part `fresh` of a new popular
    object appears, and all others lose that part of a rank.
    """

    requests: int
    objects: int
    crawlers: int = 3
    scanned: float = 0.3
    skew: float = 0.9
    fresh: float = 0.001
    per_s: float = 200.0
    mean_bytes: int = 16_000
    seed: int = 1

    def read(self) -> Iterator[Request]:
        """The requests; the same ones with every call."""
        dice = random.Random(self.seed)  # noqa: S311  a trace, no secret
        places = [dice.randrange(self.objects) for _ in range(self.crawlers)]
        exponent = 1 - self.skew
        top = self.objects**exponent - 1
        for number in range(self.requests):
            if places and dice.random() < self.scanned:
                crawler = dice.randrange(len(places))
                chosen = places[crawler] = (places[crawler] + 1) % self.objects
            else:
                rank = int((top * dice.random() + 1) ** (1 / exponent)) - 1
                # Popular objects are scattered over the order in which crawlers request them.
                chosen = (rank - int(number * self.fresh)) * _SCATTER % self.objects
            yield number / self.per_s, _mixed(chosen), self._size(chosen)

    def _size(self, chosen: int) -> int:
        """Distributed like the sizes of real answers: most are small, few are ten times the
        mean.
        """
        part = (_mixed(chosen + 1) >> 40) / (1 << 24) + 2**-25
        return rounded(int(-self.mean_bytes * math.log(part)) + 500)


_SCATTER = 1_000_003  # a prime


def _mixed(number: int) -> int:
    """64 well-mixed bits of a number (splitmix64), so that a sample by key is representative."""
    mask = (1 << 64) - 1
    z = (number + 0x9E3779B97F4A7C15) & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31
