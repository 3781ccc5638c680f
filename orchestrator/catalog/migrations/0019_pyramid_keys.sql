-- Sources are listed by key.
CREATE INDEX pyramid_sources_key ON pyramid_sources (key, bucket);
