-- Hosts no longer share a source folder (cache.sources_shared was removed): each has its own cache.
DROP TABLE shared_files, shared_holders, shared_folders;
