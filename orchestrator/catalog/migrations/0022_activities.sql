-- What happened to the assets of which the public sees something: the stream of IIIF Change Discovery,
-- and the record of deletions. `number` counts the activities of a customer without gaps, in the order
-- of the commits. An activity that a later one of its asset replaced is not the latest; these, and
-- deletions, are pruned after `ingest.keep_activities_days`.
CREATE TABLE activities (
    customer integer NOT NULL,
    number bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('Create', 'Update', 'Delete')),
    at timestamptz NOT NULL,
    space integer NOT NULL,
    name text NOT NULL COLLATE "C",
    is_latest boolean NOT NULL DEFAULT true,
    PRIMARY KEY (customer, number)
);
CREATE UNIQUE INDEX activities_latest ON activities (customer, space, name) WHERE is_latest;
CREATE INDEX activities_prunable ON activities (at) WHERE NOT is_latest OR kind = 'Delete';

-- The last number and time of each customer: they never decrease, also if the clock is set back.
CREATE TABLE activity_counts (
    customer integer PRIMARY KEY,
    last bigint NOT NULL,
    at timestamptz NOT NULL
);

INSERT INTO activities (customer, number, kind, at, space, name)
SELECT customer, row_number() OVER (PARTITION BY customer ORDER BY updated, space, name), 'Create',
    updated, space, name
FROM assets WHERE visibility = 1;
INSERT INTO activity_counts SELECT customer, max(number), max(at) FROM activities GROUP BY customer;

CREATE FUNCTION record_activity() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    asset assets%ROWTYPE;
    what text;
    counted activity_counts%ROWTYPE;
BEGIN
    IF TG_OP = 'DELETE' THEN
        asset := OLD;
        what := 'Delete';
    ELSE
        asset := NEW;
        what := 'Create';
        IF TG_OP = 'UPDATE' AND OLD.visibility = 1 THEN
            what := CASE WHEN NEW.visibility = 1 THEN 'Update' ELSE 'Delete' END;
        END IF;
    END IF;
    INSERT INTO activity_counts AS counts VALUES (asset.customer, 1, clock_timestamp())
    ON CONFLICT (customer) DO UPDATE
        SET last = counts.last + 1, at = greatest(counts.at, excluded.at)
    RETURNING * INTO counted;
    UPDATE activities SET is_latest = false
    WHERE customer = asset.customer AND space = asset.space AND name = asset.name AND is_latest;
    INSERT INTO activities (customer, number, kind, at, space, name)
    VALUES (asset.customer, counted.last, what, counted.at, asset.space, asset.name);
    RETURN NULL;
END $$;

-- Deferred: the counter is locked during the commit alone, when its transaction waits for nothing else.
-- So the numbers have the order of the commits, and no transactions wait for each other.
CREATE CONSTRAINT TRIGGER asset_shown AFTER INSERT ON assets
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.visibility = 1) EXECUTE FUNCTION record_activity();
CREATE CONSTRAINT TRIGGER asset_shown_otherwise AFTER UPDATE ON assets
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.visibility = 1 OR NEW.visibility = 1) AND
        (OLD.visibility, OLD.version, OLD.width, OLD.height, OLD.strings, OLD.numbers, OLD.tags,
            OLD.rights, OLD.thumbnails) IS DISTINCT FROM
        (NEW.visibility, NEW.version, NEW.width, NEW.height, NEW.strings, NEW.numbers, NEW.tags,
            NEW.rights, NEW.thumbnails))
    EXECUTE FUNCTION record_activity();
CREATE CONSTRAINT TRIGGER asset_shown_no_more AFTER DELETE ON assets
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.visibility = 1) EXECUTE FUNCTION record_activity();
