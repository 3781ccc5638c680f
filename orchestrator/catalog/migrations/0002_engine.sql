-- The Engine: jobs and batches, origin strategies, policies, quotas, the ledger of stored objects,
-- the history of attempts.

-- One row a piece of work: the record of what is to be done, by whom it is being done and what came
-- of it. The queue (PgQueuer or SQS) only says that there is work; which comes next is decided here.
CREATE TABLE batches (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    customer integer NOT NULL REFERENCES customers (id) ON DELETE CASCADE,
    lane text NOT NULL CHECK (lane IN ('normal', 'priority')),
    count integer NOT NULL CHECK (count >= 0),
    completed integer NOT NULL DEFAULT 0,
    errors integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    submitted timestamptz NOT NULL DEFAULT now(),
    finished timestamptz,
    CHECK (completed + errors + cancelled <= count)
);
CREATE INDEX batches_customer ON batches (customer, id);
CREATE INDEX batches_finished ON batches (finished) WHERE finished IS NOT NULL;

CREATE TABLE jobs (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    lane text NOT NULL CHECK (lane IN ('normal', 'priority')),
    customer integer NOT NULL,
    host text NOT NULL DEFAULT '',
    asset text NOT NULL DEFAULT '' COLLATE "C",
    batch bigint REFERENCES batches (id) ON DELETE CASCADE,
    payload jsonb NOT NULL,
    state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    attempts integer NOT NULL DEFAULT 0,
    due timestamptz NOT NULL DEFAULT now(),
    worker text NOT NULL DEFAULT '',
    heartbeat timestamptz,
    fault jsonb,
    dedupe text UNIQUE,
    announced timestamptz,
    created timestamptz NOT NULL DEFAULT now(),
    started timestamptz,
    finished timestamptz
);
CREATE INDEX jobs_queued ON jobs (lane, customer, due, id) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (heartbeat) WHERE state = 'running';
CREATE INDEX jobs_batch ON jobs (batch, id) WHERE batch IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (finished) WHERE state IN ('done', 'failed', 'cancelled');
CREATE INDEX jobs_asset ON jobs (asset, id) WHERE asset <> '';
CREATE INDEX jobs_unannounced ON jobs (id) WHERE state = 'queued' AND announced IS NULL;
CREATE INDEX jobs_failed ON jobs (id) WHERE state = 'failed';

-- The best due job of the first of these lanes that has one, now running for `claimant`; no row
-- where there is none. Of the customers that wait it is the turn of the one with the fewest running
-- jobs, then of the one that waits longest; of one origin host at most `host_limit` run at once.
-- One claim at a time in the installation, or two could each see room for the last one of a host; in
-- one statement of the client's, or one that stands still could hold all others up.
CREATE FUNCTION claim_job(claimant text, of_kinds text[], in_lanes text[], host_limit integer)
RETURNS SETOF jobs LANGUAGE plpgsql AS $$
DECLARE
    full_hosts text[];
    wanted text;
    turn integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('claim_job', 0));
    full_hosts := ARRAY(
        SELECT host FROM jobs WHERE state = 'running' AND host <> ''
        GROUP BY host HAVING count(*) >= host_limit);
    FOREACH wanted IN ARRAY in_lanes LOOP
        FOR turn IN
            WITH RECURSIVE waiting AS (  -- each customer by one step down the index
                (SELECT customer, due, id FROM jobs WHERE state = 'queued' AND lane = wanted
                 ORDER BY customer, due, id LIMIT 1)
                UNION ALL
                SELECT next.* FROM waiting, LATERAL (
                    SELECT jobs.customer, jobs.due, jobs.id FROM jobs
                    WHERE state = 'queued' AND lane = wanted AND jobs.customer > waiting.customer
                    ORDER BY jobs.customer, jobs.due, jobs.id LIMIT 1) AS next
            ), busy AS (
                SELECT customer, count(*) AS running FROM jobs WHERE state = 'running'
                GROUP BY customer
            )
            SELECT waiting.customer FROM waiting LEFT JOIN busy USING (customer)
            WHERE waiting.due <= clock_timestamp()
            ORDER BY coalesce(busy.running, 0), waiting.due, waiting.id
        LOOP
            RETURN QUERY
                UPDATE jobs SET state = 'running', worker = claimant, attempts = jobs.attempts + 1,
                    heartbeat = clock_timestamp(), started = clock_timestamp()
                WHERE jobs.id = (
                    SELECT best.id FROM jobs AS best
                    WHERE best.state = 'queued' AND best.lane = wanted AND best.customer = turn
                        AND best.due <= clock_timestamp() AND best.kind = ANY (of_kinds)
                        AND best.host <> ALL (full_hosts)
                    ORDER BY best.due, best.id LIMIT 1 FOR UPDATE SKIP LOCKED)
                RETURNING jobs.*;
            IF FOUND THEN
                RETURN;
            END IF;
        END LOOP;
    END LOOP;
END $$;

CREATE TABLE origin_strategies (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    customer integer NOT NULL REFERENCES customers (id) ON DELETE CASCADE,
    place integer NOT NULL DEFAULT 0,
    regex text NOT NULL CHECK (regex <> ''),
    strategy text NOT NULL,
    credentials text NOT NULL DEFAULT '',
    optimised boolean NOT NULL DEFAULT false,
    created timestamptz NOT NULL DEFAULT now(),
    updated timestamptz NOT NULL DEFAULT now(),
    UNIQUE (customer, regex)
);

-- Customer 0 stands for all: a global policy.
CREATE TABLE policies (
    kind text NOT NULL CHECK (kind IN ('optimisation', 'thumbnail')),
    customer integer NOT NULL DEFAULT 0,
    name text NOT NULL CHECK (name <> ''),
    definition jsonb NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    updated timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, customer, name)
);

-- NULL: no limit. `images` is how many assets have live objects, `stored` what those add up to (lists
-- of sizes apart); both are kept up in the transaction that changes them.
CREATE TABLE customer_storage (
    customer integer PRIMARY KEY,
    max_images bigint,
    max_bytes bigint,
    images bigint NOT NULL DEFAULT 0,
    stored bigint NOT NULL DEFAULT 0
);

CREATE TABLE quota_reservations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    customer integer NOT NULL,
    asset text NOT NULL COLLATE "C",
    bytes bigint NOT NULL CHECK (bytes >= 0),
    images integer NOT NULL DEFAULT 0,
    expires timestamptz NOT NULL
);
CREATE INDEX quota_reservations_customer ON quota_reservations (customer);

-- Every object there is, or may be, in the store: entered before it is written, so that none is
-- ever unknown; `unwanted` ones are removed, then forgotten.
CREATE TABLE stored_objects (
    key text PRIMARY KEY COLLATE "C",
    customer integer NOT NULL,
    space integer NOT NULL,
    name text NOT NULL COLLATE "C",
    version bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('source', 'original', 'thumbnail', 'sizes')),
    bytes bigint NOT NULL DEFAULT 0,
    state text NOT NULL CHECK (state IN ('writing', 'live', 'unwanted')),
    since timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX stored_objects_asset ON stored_objects (customer, space, name);
CREATE INDEX stored_objects_leftover ON stored_objects (since) WHERE state <> 'live';

CREATE TABLE ingest_attempts (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    customer integer NOT NULL,
    space integer NOT NULL,
    name text NOT NULL COLLATE "C",
    job bigint,
    version bigint,
    outcome text NOT NULL CHECK (outcome IN ('completed', 'unchanged', 'failed')),
    bytes bigint NOT NULL DEFAULT 0,
    fault jsonb,
    started timestamptz NOT NULL,
    finished timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ingest_attempts_asset ON ingest_attempts (customer, space, name, id);
CREATE INDEX ingest_attempts_finished ON ingest_attempts (finished);

-- An asset may be known before there is anything to serve of it (declared by the API, its ingest
-- waiting, or failed for good): no size then, no source.
ALTER TABLE assets ALTER COLUMN width SET DEFAULT 0;
ALTER TABLE assets ALTER COLUMN height SET DEFAULT 0;
ALTER TABLE assets ADD COLUMN origin_etag text NOT NULL DEFAULT '';
ALTER TABLE assets ADD COLUMN origin_sha256 text NOT NULL DEFAULT '';
ALTER TABLE assets ADD COLUMN batch bigint;
ALTER TABLE assets ADD COLUMN finished timestamptz;
ALTER TABLE assets ADD COLUMN declared timestamptz;
CREATE INDEX assets_ingesting ON assets (declared) WHERE state = 'ingesting';

-- What the caches may do with an asset's files.
ALTER TABLE assets ADD COLUMN pinned boolean NOT NULL DEFAULT false;
ALTER TABLE assets ADD COLUMN orchestrate boolean NOT NULL DEFAULT true;
CREATE INDEX assets_pinned ON assets (customer, space, name) WHERE pinned;

-- What caches hold no longer stands for, kept some days for hosts that did not hear it when it was
-- said: the assets whose version changed (0: gone), and prefixes of ids to be cleared (-1).
CREATE TABLE asset_changes (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    asset text NOT NULL COLLATE "C",
    version bigint NOT NULL
);
CREATE INDEX asset_changes_at ON asset_changes (at, id);

CREATE FUNCTION keep_asset_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO asset_changes (asset, version) VALUES (
        format('%s/%s/%s', OLD.customer, OLD.space,
            replace(replace(OLD.name, '%', '%25'), '/', '%2F')),
        CASE WHEN TG_OP = 'DELETE' THEN 0 ELSE NEW.version END);
    RETURN NULL;
END $$;
CREATE TRIGGER asset_changed AFTER UPDATE OF version ON assets FOR EACH ROW
    WHEN (OLD.version IS DISTINCT FROM NEW.version) EXECUTE FUNCTION keep_asset_change();
CREATE TRIGGER asset_gone AFTER DELETE ON assets FOR EACH ROW EXECUTE FUNCTION keep_asset_change();

-- An admin key reaches every customer and what is global.
ALTER TABLE api_keys ADD COLUMN admin boolean NOT NULL DEFAULT false;
