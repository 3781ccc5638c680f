-- The definitions of the policies that the asset was made with: an edited policy is another one,
-- whatever its name. '': not known, the names alone count.
ALTER TABLE assets ADD COLUMN made_with text NOT NULL DEFAULT '';
