-- The objects of the source bucket, as their events and notes named them. `base` is the key of the pyramid
-- without `.tif`; NULL if no pyramid was asked for yet. `etag` and `made_with` are of the last event that was
-- accepted, then of the bytes and the policy that the pyramids were made with. `generation`: only the job of
-- the last accepted event stores a result.
CREATE TABLE pyramid_sources (
    bucket text NOT NULL,
    key text NOT NULL,
    base text UNIQUE,
    state text NOT NULL CHECK (state IN ('queued', 'done', 'failed', 'removed')),
    generation bigint NOT NULL,
    job bigint NOT NULL DEFAULT 0,
    etag text NOT NULL,
    version text NOT NULL DEFAULT '',
    sequencer text NOT NULL DEFAULT '',
    made_with text NOT NULL DEFAULT '',
    is_copyrighted boolean NOT NULL DEFAULT false,
    attempts integer NOT NULL DEFAULT 0,
    fault jsonb,
    accepted timestamptz NOT NULL DEFAULT now(),
    finished timestamptz,
    PRIMARY KEY (bucket, key)
);

-- The objects of the image bucket: a key belongs to one source for ever, and is entered before the object
-- is written. `etag` is '' until then.
CREATE TABLE pyramids (
    target text PRIMARY KEY,
    bucket text NOT NULL,
    key text NOT NULL,
    page integer NOT NULL,
    asset text NOT NULL,
    etag text NOT NULL DEFAULT '',
    width integer NOT NULL DEFAULT 0,
    height integer NOT NULL DEFAULT 0,
    levels integer NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    stored timestamptz,
    FOREIGN KEY (bucket, key) REFERENCES pyramid_sources
);
CREATE INDEX pyramids_source ON pyramids (bucket, key, page);
