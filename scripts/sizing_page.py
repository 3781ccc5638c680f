"""Computes docs/sizing.md: what collections of three sizes need.

`tests/unit/test_sizing.py` compares the constants with docs/performance.md, docs/policies.md and
the cache simulator; `tests/integration/catalog/test_bytes_of_an_asset.py` measures the database.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MEGAPIXELS = 24
MB_PER_MEGAPIXEL = {"fast-lossy": 0.20, "fastest": 0.43}
INGEST_S_PER_MEGAPIXEL = {"fast-lossy": 0.132, "fastest": 0.020}
TILE_MS = {"fast-lossy": 29.0, "fastest": 8.0}
THUMBNAILS_MB = 0.15
DATABASE_KB = 3.6
SPARE_ROOM = 1.5
HIT_MS, THUMBNAIL_MS = 0.02, 3.0
CACHED_PART, HIT_RATIO = 0.04, 0.45
TILE_PIXELS, TILE_KB = 512, 20
THUMBNAIL_SHARE, CDN_HITS = 0.20, 0.80
BUSY, CORES_PER_HOST = 0.5, 16
DAYS = 86_400


@dataclass(frozen=True)
class Collection:
    """The assumptions about one collection. `peak` is requests per second of all readers."""

    title: str
    images: int
    seen_in_a_month: int
    peak: int
    load_days: int


COLLECTIONS = (
    Collection("1 million", 1_000_000, 200_000, 100, 30),
    Collection("10 million", 10_000_000, 1_000_000, 1_000, 30),
    Collection("1 billion", 1_000_000_000, 10_000_000, 20_000, 365),
)


def source_mb(policy: str) -> float:
    """Megabytes that one image takes in the object store, thumbnails included."""
    return MEGAPIXELS * MB_PER_MEGAPIXEL[policy] + THUMBNAILS_MB


def ms_per_request(policy: str) -> float:
    """Processor milliseconds of a mean request behind the CDN."""
    rendered = 1 - HIT_RATIO - THUMBNAIL_SHARE
    return HIT_RATIO * HIT_MS + THUMBNAIL_SHARE * THUMBNAIL_MS + rendered * TILE_MS[policy]


def serve_cores(collection: Collection, policy: str) -> float:
    """Cores that answer the requests that the CDN does not, half busy at the peak."""
    arriving = collection.peak * (1 - CDN_HITS)
    return arriving * ms_per_request(policy) / 1000 / BUSY


def hosts(cores: float) -> int:
    """Serve hosts: one more than needed, so that one may fail."""
    return math.ceil(cores / CORES_PER_HOST) + 1


def ingest_cores(collection: Collection, policy: str) -> float:
    """Cores that ingest the whole collection in its time."""
    seconds = collection.images * MEGAPIXELS * INGEST_S_PER_MEGAPIXEL[policy]
    return seconds / (collection.load_days * DAYS) / 0.8


def answers_mb() -> float:
    """Megabytes of all tiles of one image: those of full scale and a third for the smaller ones."""
    tiles = MEGAPIXELS * 1e6 / TILE_PIXELS**2 * 4 / 3
    return tiles * TILE_KB / 1000


def derivatives_gb(collection: Collection) -> float:
    """Gigabytes of the disk caches of derivatives, of all hosts together."""
    return collection.seen_in_a_month * answers_mb() * CACHED_PART / 1000


def sources_gb(collection: Collection, policy: str) -> float:
    """Gigabytes of the source caches, of all hosts together: what is seen in a day."""
    return collection.seen_in_a_month / 30 * source_mb(policy) / 1000


def database_gb(collection: Collection) -> float:
    """Gigabytes of the database with room for dead rows."""
    return collection.images * DATABASE_KB * SPARE_ROOM / 1e6


def database_memory_gb(collection: Collection) -> float:
    """Gigabytes of memory of the database: the rows of what is seen in a month, twice, and 2."""
    return 2 + 2 * collection.seen_in_a_month * DATABASE_KB / 1e6


def amount(number: float) -> str:
    """A number with two digits that count."""
    if number < 10:
        return f"{number:.1f}"
    digits = 10 ** (math.floor(math.log10(number)) - 1)
    return f"{round(number / digits) * digits:,.0f}"


def bytes_text(gigabytes: float) -> str:
    """An amount of bytes in the unit that fits."""
    for unit, factor in (("PB", 1e6), ("TB", 1e3)):
        if gigabytes >= factor:
            return f"{amount(gigabytes / factor)} {unit}"
    return f"{amount(gigabytes)} GB"


def document() -> str:
    """The text of docs/sizing.md."""
    return "".join(
        (_HEAD, _assumptions(), _needs("fast-lossy"), _needs("fastest"), _arithmetic(), _TAIL)
    )


_HEAD = """\
# Sizing

How many machines, how much disk and which database a collection needs. `make docs` writes this page from `scripts/sizing_page.py`; tests compare the constants with
[the benchmarks](performance.md), [the policies](policies.md), the cache simulator and a real database. Replace the assumptions by yours and compute again: the arithmetic is
below the tables.

**What was measured, and what was not.** Costs of one request, one ingest and one row were measured on a machine with two cores, the disk caches with up to a million files.
The tables multiply them. An installation of 10 million or a billion images was not measured: try the largest part that you can, then scale.

"""

_TAIL = """
## Which machines

- **Serve hosts**: 16 cores and 32 GB. Each core runs a serve process or a decode worker; each process needs up to 160 MB, each decode worker up to 300 MB. The rest is page cache,
  which answers from the disk cache without reading the disk. The caches belong on local NVMe, as large as the table says divided by the number of hosts. One host alone is enough up to
  about 8 cores; a second one is there in case the first one fails.
- **Load balancer**: by image, so that the tiles of one image meet one cache ([several machines](operations.md#several-machines)). Otherwise each host needs the caches of all.
- **Ingest workers**: the cores of the table for the first load. Afterwards the daily additions count: `images a day * seconds each / 86,400`. Memory: 300 MB for each core, and scratch
  disk for the largest originals in work.
- **Database**: PostgreSQL on SSD. It is read once for each image and host in `delivery.snapshot_ttl_s`, and written by ingests and changes, not by requests. Connections: the number of
  processes times `database.pool_max` at most.
- **Object store**: any S3. Six objects for each image.

## When the numbers are not yours

- Look at the hit ratio of your CDN and put it in place of 80 %: this is the largest factor of all.
- Record an access log for a week and run `orchestrator cache simulate` ([size the cache](how-to/size-the-cache.md)): it says the hit ratio of each quota for your readers.
- Run `make load` against one host ([performance](performance.md)) until its processors are half busy, and divide.
- Watch `orchestrator_cache_eviction_age_seconds`: a cache whose files leave within an hour is too small.
"""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _assumptions() -> str:
    rows = [
        ["images", *(f"{each.images:,}" for each in COLLECTIONS)],
        ["seen in a month", *(f"{each.seen_in_a_month:,}" for each in COLLECTIONS)],
        ["requests per second of all readers, peak", *(f"{each.peak:,}" for each in COLLECTIONS)],
        ["days for the first load", *(str(each.load_days) for each in COLLECTIONS)],
    ]
    head = ["assumed", *(each.title for each in COLLECTIONS)]
    return f"## Assumptions\n\nImages of {MEGAPIXELS} megapixels, behind a CDN.\n\n" + _table(
        head, rows
    )


def _needs(policy: str) -> str:
    cores = [serve_cores(each, policy) for each in COLLECTIONS]
    rows = [
        [
            "object store",
            *(bytes_text(each.images * source_mb(policy) / 1000) for each in COLLECTIONS),
        ],
        ["cores that serve", *(amount(each) for each in cores)],
        [f"serve hosts of {CORES_PER_HOST} cores", *(str(hosts(each)) for each in cores)],
        [
            "`cache.derivatives_quota`, all hosts",
            *(bytes_text(derivatives_gb(each)) for each in COLLECTIONS),
        ],
        [
            "`cache.sources_quota`, all hosts",
            *(bytes_text(sources_gb(each, policy)) for each in COLLECTIONS),
        ],
        ["cores for the first load", *(amount(ingest_cores(each, policy)) for each in COLLECTIONS)],
        ["database on disk", *(bytes_text(database_gb(each)) for each in COLLECTIONS)],
        ["memory of the database", *(bytes_text(database_memory_gb(each)) for each in COLLECTIONS)],
    ]
    kind = {"fast-lossy": "JPEG2000", "fastest": "pyramid TIFF"}[policy]
    title = f"\n## With the policy `{policy}` ({kind})\n\n"
    return title + _table(["needed", *(each.title for each in COLLECTIONS)], rows)


def _arithmetic() -> str:
    example, policy = COLLECTIONS[1], "fast-lossy"
    arriving = example.peak * (1 - CDN_HITS)
    rendered = 1 - HIT_RATIO - THUMBNAIL_SHARE
    return f"""
## The arithmetic

With the numbers of {example.title} images and `{policy}`:

| step | arithmetic |
|---|---|
| bytes of an image | {MEGAPIXELS} MP * {MB_PER_MEGAPIXEL[policy]:.2f} MB ([policies](policies.md)) + {THUMBNAILS_MB} MB of thumbnails = {source_mb(policy):.1f} MB |
| object store | {example.images:,} * {source_mb(policy):.1f} MB = {bytes_text(example.images * source_mb(policy) / 1000)} |
| requests that arrive | {example.peak:,} /s * (1 - {CDN_HITS:.0%} answered by the CDN) = {arriving:.0f} /s |
| cost of a request | {HIT_RATIO:.0%} hits * {HIT_MS} ms + {THUMBNAIL_SHARE:.0%} thumbnails * {THUMBNAIL_MS:.0f} ms + {rendered:.0%} tiles * {TILE_MS[policy]:.0f} ms ([performance](performance.md), P2, P8, P5) = {ms_per_request(policy):.1f} ms |
| cores that serve | {arriving:.0f} /s * {ms_per_request(policy):.1f} ms / {BUSY:.0%} busy = {amount(serve_cores(example, policy))} |
| serve hosts | {amount(serve_cores(example, policy))} / {CORES_PER_HOST} cores, rounded up, + 1 = {hosts(serve_cores(example, policy))} |
| tiles of an image | {MEGAPIXELS} MP / ({TILE_PIXELS} * {TILE_PIXELS}) * 4/3 for smaller scales * {TILE_KB} KB = {answers_mb():.1f} MB |
| derivatives | {example.seen_in_a_month:,} images seen * {answers_mb():.1f} MB * {CACHED_PART:.0%} = {bytes_text(derivatives_gb(example))}; a cache of {CACHED_PART:.0%} of all answers has {HIT_RATIO:.0%} hits in the simulator (`cache simulate --trace long-tail --requests 100000 --objects 50000 --crawlers 0 --quota 37MB`) |
| sources | {example.seen_in_a_month:,} / 30 days * {source_mb(policy):.1f} MB = {bytes_text(sources_gb(example, policy))} |
| first load | {example.images:,} * {MEGAPIXELS} MP * {INGEST_S_PER_MEGAPIXEL[policy]} s / ({example.load_days} days * 86,400 s) / 80 % busy = {amount(ingest_cores(example, policy))} cores |
| database | {example.images:,} * {DATABASE_KB} KB (rows and indexes of asset, six objects, one attempt) * {SPARE_ROOM} for dead rows = {bytes_text(database_gb(example))} |
| its memory | 2 GB + 2 * {example.seen_in_a_month:,} * {DATABASE_KB} KB = {bytes_text(database_memory_gb(example))} |
"""
