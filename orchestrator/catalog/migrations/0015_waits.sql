-- For how many seconds a job waits, from when `due` was set. NULL: recorded by an earlier release.
ALTER TABLE jobs ADD COLUMN wait_s double precision;
