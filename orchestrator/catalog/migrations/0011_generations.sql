-- Each accepted request that creates, replaces, changes or deletes an asset takes the next number.
CREATE SEQUENCE generations;

-- `generation`: of the last accepted request. `ingest_generation`: of the last accepted request for an
-- ingest; only the work for this one may publish. `requested`: what that ingest will publish, together
-- with what was changed since; NULL when it was published.
ALTER TABLE assets ADD COLUMN generation bigint NOT NULL DEFAULT 0,
    ADD COLUMN ingest_generation bigint NOT NULL DEFAULT 0,
    ADD COLUMN requested jsonb;

-- 0: a job without a request of its own, or of an earlier release.
ALTER TABLE jobs ADD COLUMN generation bigint NOT NULL DEFAULT 0,
    DROP CONSTRAINT jobs_state_check,
    ADD CONSTRAINT jobs_state_check
        CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled', 'superseded'));
DROP INDEX jobs_ended;
CREATE INDEX jobs_ended ON jobs (finished)
    WHERE state IN ('done', 'failed', 'cancelled', 'superseded');

ALTER TABLE batches ADD COLUMN superseded integer NOT NULL DEFAULT 0,
    DROP CONSTRAINT batches_check,
    ADD CONSTRAINT batches_check CHECK (completed + errors + cancelled + superseded <= count);

ALTER TABLE ingest_attempts DROP CONSTRAINT ingest_attempts_outcome_check,
    ADD CONSTRAINT ingest_attempts_outcome_check
        CHECK (outcome IN ('completed', 'unchanged', 'failed', 'superseded'));
