-- How far a job has come, for jobs that change many assets. A job that is claimed again goes on there.
ALTER TABLE jobs ADD COLUMN progress jsonb;
CREATE INDEX jobs_bulk ON jobs (customer, id) WHERE kind = 'bulk';

-- A batch that is to be notified gets a job with its end, in the transaction in which its last job
-- ends: one job, whichever process dies. A retry opens the batch, and its next end is another one.
ALTER TABLE batches ADD COLUMN is_notified boolean NOT NULL DEFAULT false;

CREATE FUNCTION notify_batch_completed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO jobs (kind, lane, customer, payload, wait_s)
    VALUES ('batch_webhook', 'priority', 0, jsonb_build_object(
        'event', 'batch-completed', 'id', NEW.id, 'customer', NEW.customer, 'lane', NEW.lane,
        'count', NEW.count, 'completed', NEW.completed, 'errors', NEW.errors,
        'cancelled', NEW.cancelled, 'superseded', NEW.superseded,
        'submitted', NEW.submitted, 'finished', NEW.finished), 0);
    RETURN NULL;
END $$;
CREATE TRIGGER batch_recorded AFTER INSERT ON batches FOR EACH ROW
    WHEN (NEW.is_notified AND NEW.finished IS NOT NULL) EXECUTE FUNCTION notify_batch_completed();
CREATE TRIGGER batch_completed AFTER UPDATE OF finished ON batches FOR EACH ROW
    WHEN (NEW.is_notified AND NEW.finished IS NOT NULL AND OLD.finished IS NULL)
    EXECUTE FUNCTION notify_batch_completed();
