-- The code of an error, for programs, and the release of the product that found it: a later release
-- may read a picture that this one refuses.
ALTER TABLE assets ADD COLUMN error_code text NOT NULL DEFAULT '', ADD COLUMN error_release text NOT NULL DEFAULT '';
