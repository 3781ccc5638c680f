-- Source folders shared by several hosts (a NAS): what lies in them, who is writing, who keeps
-- house. All times are the database's, so that hosts' clocks need not agree.

-- `term` grows with each owner: what an owner of an earlier term still does is refused.
CREATE TABLE shared_folders (
    id uuid PRIMARY KEY,
    known boolean NOT NULL,
    owner text NOT NULL DEFAULT '',
    host text NOT NULL DEFAULT '',
    term bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '-infinity'
);

-- The processes that use a folder, each with the quota it was told; the least one counts.
CREATE TABLE shared_holders (
    folder uuid NOT NULL REFERENCES shared_folders (id) ON DELETE CASCADE,
    holder text NOT NULL,
    host text NOT NULL,
    quota bigint NOT NULL,
    expires timestamptz NOT NULL,
    PRIMARY KEY (folder, holder)
);

-- A row is the claim to write a file (`writer`, its `temp`orary name and the bytes set apart for
-- it) until the file is there, then the file (`writer` is empty).
CREATE TABLE shared_files (
    folder uuid NOT NULL REFERENCES shared_folders (id) ON DELETE CASCADE,
    asset text NOT NULL COLLATE "C",
    name text NOT NULL COLLATE "C",
    text text NOT NULL DEFAULT '' COLLATE "C",
    bytes bigint NOT NULL CHECK (bytes >= 0),
    writer text NOT NULL DEFAULT '',
    temp text NOT NULL DEFAULT '',
    last_used timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    pinned boolean NOT NULL DEFAULT false,
    doomed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (folder, asset, name)
);
CREATE INDEX shared_files_by_use ON shared_files (folder, last_used) WHERE writer = '';
CREATE INDEX shared_files_writing ON shared_files (folder) WHERE writer <> '';
CREATE INDEX shared_files_doomed ON shared_files (folder) WHERE doomed;
