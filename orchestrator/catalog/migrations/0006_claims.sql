-- When a job was first begun, since it was handed in or a person had it done again: how long it has
-- been failing, which waiting for its turn says nothing of.
ALTER TABLE jobs ADD COLUMN begun timestamptz;

-- As in 0002, and: of one asset one job runs at once, for a second would only wait for the first in a
-- slot that others could use.
CREATE OR REPLACE FUNCTION claim_job(
    claimant text, of_kinds text[], in_lanes text[], host_limit integer)
RETURNS SETOF jobs LANGUAGE plpgsql AS $$
DECLARE
    full_hosts text[];
    busy_assets text[];
    wanted text;
    turn integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('claim_job', 0));
    full_hosts := ARRAY(
        SELECT host FROM jobs WHERE state = 'running' AND host <> ''
        GROUP BY host HAVING count(*) >= host_limit);
    busy_assets := ARRAY(SELECT asset FROM jobs WHERE state = 'running' AND asset <> '');
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
                    heartbeat = clock_timestamp(), started = clock_timestamp(),
                    begun = coalesce(jobs.begun, clock_timestamp())
                WHERE jobs.id = (
                    SELECT best.id FROM jobs AS best
                    WHERE best.state = 'queued' AND best.lane = wanted AND best.customer = turn
                        AND best.due <= clock_timestamp() AND best.kind = ANY (of_kinds)
                        AND best.host <> ALL (full_hosts) AND best.asset <> ALL (busy_assets)
                    ORDER BY best.due, best.id LIMIT 1 FOR UPDATE SKIP LOCKED)
                RETURNING jobs.*;
            IF FOUND THEN
                RETURN;
            END IF;
        END LOOP;
    END LOOP;
END $$;
