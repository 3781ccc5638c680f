-- Uploaded pictures. The store has the bytes, the row has the state: `incoming` (not published),
-- `active` (published) or `deleted` (what is left of it is being deleted).
CREATE TABLE uploads (
    name text PRIMARY KEY,
    key text NOT NULL,
    state text NOT NULL CHECK (state IN ('incoming', 'active', 'deleted')),
    width integer NOT NULL,
    height integer NOT NULL,
    frames integer NOT NULL,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    -- x, y, width, height in pixels of the upright original; NULL: the whole picture.
    crop integer[],
    -- What the versions in the store were made with; '' if they are not complete.
    made_with text NOT NULL DEFAULT '',
    -- The names (suffixes) of all versions that may be in the store.
    versions text[] NOT NULL DEFAULT '{}',
    -- The further formats in which the versions are stored.
    formats text[] NOT NULL DEFAULT '{}',
    -- Grows with each change of what is published.
    revision bigint NOT NULL DEFAULT 0,
    -- The registered asset of a published picture, customer/space/name; '' before that.
    asset text NOT NULL DEFAULT '',
    created timestamptz NOT NULL DEFAULT now(),
    published timestamptz,
    -- When what is published changed last.
    changed timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX uploads_unfinished ON uploads (created) WHERE state <> 'active';
