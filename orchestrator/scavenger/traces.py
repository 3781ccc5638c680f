"""Traces to simulate caches with: read from access logs (docs/access-log.md) or generated.

A trace is never held: requests come one by one, as (seconds, key, bytes), a key being 64 bits of a
hash. Lines that are no use to the simulated cache are counted by the reason why.
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
    """Which requests of an access log reach a disk cache, and as what.

    Derivatives: image requests answered 200, by asset, version and canonical form; what memory
    answered never reached the disk, unless `memory` says to count it. Sources: what the image
    server answered, by asset and version, each source taken as `source_bytes`.
    """

    cache: CacheName = "derivatives"
    memory: bool = False
    source_bytes: int = 30_000_000
    lines: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Lines not used, by reason: `broken` (no line of an access log), `other`, `memory`."""

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
        """Why a line is not used; "" if it is."""
        image = entry["canonical"] and entry["asset"] and entry["method"] == "GET"
        if not image or entry["status"] != 200 or entry["bytes"] <= 0:
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
    """A long tail with crawlers: `requests` for `objects`, popular ones far more often (Zipf).

    `scanned` of the requests are made by `crawlers`, each going through all objects in order; the
    rest by people. `fresh` new favourites come with each request: the former ones sink by a rank.
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
        """The same requests at every call."""
        dice = random.Random(self.seed)  # noqa: S311  a trace, no secret
        places = [dice.randrange(self.objects) for _ in range(self.crawlers)]
        exponent = 1 - self.skew
        top = self.objects**exponent - 1
        for number in range(self.requests):
            if places and dice.random() < self.scanned:
                who = dice.randrange(len(places))
                chosen = places[who] = (places[who] + 1) % self.objects
            else:
                rank = int((top * dice.random() + 1) ** (1 / exponent)) - 1
                # Favourites lie scattered over what crawlers go through in order.
                chosen = (rank - int(number * self.fresh)) * _SCATTER % self.objects
            yield number / self.per_s, _mixed(chosen), self._size(chosen)

    def _size(self, chosen: int) -> int:
        """Spread as answers' sizes are: most are small, few are ten times the mean."""
        part = (_mixed(chosen + 1) >> 40) / (1 << 24) + 2**-25
        return rounded(int(-self.mean_bytes * math.log(part)) + 500)


_SCATTER = 1_000_003  # a prime


def _mixed(number: int) -> int:
    """64 well-mixed bits of a number (splitmix64), so that sampling by key is fair."""
    mask = (1 << 64) - 1
    z = (number + 0x9E3779B97F4A7C15) & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31
