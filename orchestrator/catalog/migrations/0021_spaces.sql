-- A space has a row when it was created or named by a request. Assets may be in a space without one.
CREATE TABLE spaces (
    customer integer NOT NULL REFERENCES customers (id) ON DELETE CASCADE,
    id integer NOT NULL CHECK (id >= 0),
    name text NOT NULL DEFAULT '',
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer, id)
);
CREATE UNIQUE INDEX spaces_name ON spaces (customer, name) WHERE name <> '';

-- `made_by`: the id of the key that made the key by the API; '' for a command.
ALTER TABLE api_keys ADD COLUMN label text NOT NULL DEFAULT '',
    ADD COLUMN made_by text NOT NULL DEFAULT '';

-- The highest number of a customer that was deleted: access tokens may still name it.
CREATE SEQUENCE deleted_customers MINVALUE 0;
SELECT setval('deleted_customers', 0, false);
