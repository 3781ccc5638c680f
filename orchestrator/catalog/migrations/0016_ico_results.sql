-- The results of transforms that may be stored beside their originals. A row is written before the
-- object, so a purge finds every object.
CREATE TABLE ico_results (
    store text NOT NULL,
    key text NOT NULL,
    params text NOT NULL,
    etag text NOT NULL,
    recorded timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (store, key, params)
);
