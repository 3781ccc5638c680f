-- A job that has fetched its original no longer loads the host of its origin.
ALTER TABLE jobs ADD COLUMN fetched boolean NOT NULL DEFAULT false;

-- When each customer had its last turn, as a number that grows with each claim.
CREATE TABLE customer_turns (customer integer PRIMARY KEY, turn bigint NOT NULL);
CREATE SEQUENCE customer_turn_numbers;

-- As in 0006, with these differences: of the customers that wait, the one whose last turn is longest
-- ago is next, however many of its jobs run; jobs that have fetched their original do not count for
-- their host; `without` lists customers that have enough jobs in the asking worker.
DROP FUNCTION claim_job(text, text[], text[], integer);
CREATE FUNCTION claim_job(
    claimant text, of_kinds text[], in_lanes text[], host_limit integer, without integer[])
RETURNS SETOF jobs LANGUAGE plpgsql AS $$
DECLARE
    full_hosts text[];
    busy_assets text[];
    wanted text;
    chosen integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('claim_job', 0));
    full_hosts := ARRAY(
        SELECT host FROM jobs WHERE state = 'running' AND host <> '' AND NOT fetched
        GROUP BY host HAVING count(*) >= host_limit);
    busy_assets := ARRAY(SELECT asset FROM jobs WHERE state = 'running' AND asset <> '');
    FOREACH wanted IN ARRAY in_lanes LOOP
        FOR chosen IN
            WITH RECURSIVE waiting AS (  -- each customer by one step down the index
                (SELECT customer, due, id FROM jobs WHERE state = 'queued' AND lane = wanted
                 ORDER BY customer, due, id LIMIT 1)
                UNION ALL
                SELECT next.* FROM waiting, LATERAL (
                    SELECT jobs.customer, jobs.due, jobs.id FROM jobs
                    WHERE state = 'queued' AND lane = wanted AND jobs.customer > waiting.customer
                    ORDER BY jobs.customer, jobs.due, jobs.id LIMIT 1) AS next
            )
            SELECT waiting.customer FROM waiting LEFT JOIN customer_turns USING (customer)
            WHERE waiting.due <= clock_timestamp() AND waiting.customer <> ALL (without)
            ORDER BY coalesce(customer_turns.turn, 0), waiting.due, waiting.id
        LOOP
            RETURN QUERY
                UPDATE jobs SET state = 'running', worker = claimant, attempts = jobs.attempts + 1,
                    heartbeat = clock_timestamp(), started = clock_timestamp(), fetched = false,
                    begun = coalesce(jobs.begun, clock_timestamp())
                WHERE jobs.id = (
                    SELECT best.id FROM jobs AS best
                    WHERE best.state = 'queued' AND best.lane = wanted AND best.customer = chosen
                        AND best.due <= clock_timestamp() AND best.kind = ANY (of_kinds)
                        AND best.host <> ALL (full_hosts) AND best.asset <> ALL (busy_assets)
                    ORDER BY best.due, best.id LIMIT 1 FOR UPDATE SKIP LOCKED)
                RETURNING jobs.*;
            IF FOUND THEN
                INSERT INTO customer_turns AS turns
                VALUES (chosen, nextval('customer_turn_numbers'))
                ON CONFLICT (customer) DO UPDATE SET turn = excluded.turn;
                RETURN;
            END IF;
        END LOOP;
    END LOOP;
END $$;
