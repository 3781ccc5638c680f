-- Files to be dropped had no finite age, and PostgreSQL before 17 cannot read such rows.
UPDATE shared_files SET last_used = 'epoch' WHERE last_used = '-infinity';
