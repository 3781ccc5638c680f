CREATE TABLE customers (
    id integer PRIMARY KEY CHECK (id > 0),
    name text NOT NULL UNIQUE CHECK (name <> ''),
    created timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id text PRIMARY KEY,
    customer integer NOT NULL REFERENCES customers (id) ON DELETE CASCADE,
    secret_hash bytea NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    revoked timestamptz
);

-- Every ingest and every change of rights takes the next number, so a version is never used twice.
CREATE SEQUENCE asset_versions;

CREATE TABLE assets (
    customer integer NOT NULL,
    space integer NOT NULL,
    name text NOT NULL COLLATE "C",
    version bigint NOT NULL,
    state text NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    origin text NOT NULL DEFAULT '',
    origin_fingerprint text NOT NULL DEFAULT '',
    media_type text NOT NULL DEFAULT '',
    optimisation_policy text NOT NULL DEFAULT '',
    thumbnail_policy text NOT NULL DEFAULT '',
    roles text[] NOT NULL DEFAULT '{}',
    max_unauthorised integer NOT NULL DEFAULT -1,
    strings text[] NOT NULL DEFAULT '{"","",""}' CHECK (cardinality(strings) = 3),
    numbers bigint[] NOT NULL DEFAULT '{0,0,0}' CHECK (cardinality(numbers) = 3),
    tags text[] NOT NULL DEFAULT '{}',
    rights text NOT NULL DEFAULT '',
    thumbnails jsonb NOT NULL DEFAULT '{"o": [], "a": []}',
    thumbnails_version bigint NOT NULL DEFAULT 0,
    source jsonb,
    error text NOT NULL DEFAULT '',
    created timestamptz NOT NULL DEFAULT now(),
    updated timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer, space, name)
);

-- What the converter looks for; small, because pictures do not stay unconverted.
CREATE INDEX assets_pending ON assets (updated) WHERE state IN ('registered', 'ingesting');

CREATE TABLE aliases (
    alias text PRIMARY KEY COLLATE "C",
    customer integer NOT NULL,
    space integer NOT NULL,
    name text NOT NULL COLLATE "C",
    FOREIGN KEY (customer, space, name) REFERENCES assets (customer, space, name)
        ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE INDEX aliases_asset ON aliases (customer, space, name);
