-- Stored selections of assets (manifests/query_template.py). Customer 0 stands for all: a global query.
CREATE TABLE named_queries (
    customer integer NOT NULL DEFAULT 0,
    name text NOT NULL CHECK (name <> '') COLLATE "C",
    template text NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    updated timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer, name)
);
