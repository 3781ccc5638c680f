-- `upload`: a picture that a client sent in the body of a request; the origin of its asset names it.
ALTER TABLE stored_objects DROP CONSTRAINT stored_objects_kind_check,
    ADD CONSTRAINT stored_objects_kind_check
        CHECK (kind IN ('source', 'original', 'thumbnail', 'sizes', 'upload'));
