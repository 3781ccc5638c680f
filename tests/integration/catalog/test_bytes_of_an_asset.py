"""The room that an asset takes in the database is what `docs/sizing.md` computes with."""

from __future__ import annotations

import sys
from pathlib import Path

import asyncpg
import pytest

from orchestrator.catalog.migrator import migrate
from orchestrator.settings import Database

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))
import sizing_page as sizing

ASSETS = 4000
ROWS = f"""
INSERT INTO assets (
    customer, space, name, version, state, width, height, origin, origin_fingerprint, media_type,
    optimisation_policy, thumbnail_policy, strings, numbers, tags, thumbnails, source, origin_etag,
    origin_sha256, batch, finished, declared, generation, ingest_generation, made_with)
SELECT 1, 1, 'b' || n || '_page', n, 'ready', 4000, 6000,
    's3://originals/scans/b' || n || '_page.tif', md5(n::text), 'image/jp2', 'fast-lossy',
    'default',
    ARRAY['book-' || n / 300, '', ''], ARRAY[n % 300, 0, 0], ARRAY['books'],
    '{{"o": [[100, 67], [200, 133], [400, 267], [1000, 667]], "a": []}}',
    jsonb_build_object(
        'kind', 'jpeg2000', 'location', '1/1/b' || n || '_page/' || n || '/source.jp2',
        'fingerprint', md5(n::text), 'bytes', 4800000),
    md5(n::text), encode(sha256(n::text::bytea), 'hex'), 1, now(), now(), n, n, md5('release')
FROM generate_series(1, {ASSETS}) n;
INSERT INTO stored_objects (key, customer, space, name, version, kind, bytes, state)
SELECT '1/1/b' || n || '_page/' || n || '/' || file, 1, 1, 'b' || n || '_page', n, 'thumbnail',
    20000, 'live'
FROM generate_series(1, {ASSETS}) n, unnest(ARRAY[
    'source.jp2', 'open/100.jpg', 'open/200.jpg', 'open/400.jpg', 'open/1000.jpg', 's.json']) file;
INSERT INTO ingest_attempts (customer, space, name, job, version, outcome, bytes, started)
SELECT 1, 1, 'b' || n || '_page', n, n, 'completed', 4800000, now()
FROM generate_series(1, {ASSETS}) n;
"""
SIZE = """SELECT sum(pg_total_relation_size(oid)) FROM pg_class
          WHERE relkind = 'r' AND relname IN ('assets', 'stored_objects', 'ingest_attempts',
                                              'activities', 'activity_counts', 'asset_changes')"""


async def test_an_asset_takes_the_room_that_the_sizing_page_says(database: Database) -> None:
    await migrate(database)
    connection = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        empty = await connection.fetchval(SIZE)
        await connection.execute(ROWS)
        each = float(await connection.fetchval(SIZE) - empty) / ASSETS
    finally:
        await connection.close()
    assert each / 1000 == pytest.approx(sizing.DATABASE_KB, rel=0.15)
