-- The id of the HTTP request that caused a job, "" for none.
ALTER TABLE jobs ADD COLUMN request_id text NOT NULL DEFAULT '';
