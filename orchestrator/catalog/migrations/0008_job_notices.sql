-- The jobs table is the queue (docs/adr/0011-jobs.md): PgQueuer's tables are dropped, and every job
-- that starts to wait sends a notice in the transaction that makes it wait.
DROP TABLE pgqueuer, pgqueuer_log, pgqueuer_schedules, pgqueuer_statistics;
DROP FUNCTION fn_pgqueuer_changed();
DROP TYPE pgqueuer_status;

-- It recorded which jobs were announced. The index jobs_unannounced is dropped with it.
ALTER TABLE jobs DROP COLUMN announced;

-- When the next job is due, for workers that have nothing to claim.
CREATE INDEX jobs_due ON jobs (due) WHERE state = 'queued';

-- PostgreSQL sends equal notices of one transaction once, so a batch of any size costs one.
CREATE FUNCTION notify_job_queued() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('orchestrator_jobs', '');
    RETURN NULL;
END $$;
CREATE TRIGGER job_queued AFTER INSERT OR UPDATE OF state ON jobs FOR EACH ROW
    WHEN (NEW.state = 'queued') EXECUTE FUNCTION notify_job_queued();
