-- What selections of assets (named queries, lists, searches) find and order assets by.
-- See catalog/asset_selection.py.

-- The manifests that an asset belongs to, by names of the customer's choice.
ALTER TABLE assets ADD COLUMN manifests text[] NOT NULL DEFAULT '{}';

-- Texts may be longer than an index entry (2704 bytes), so indexes hold 64-bit hashes; the texts are
-- compared as well.
CREATE FUNCTION text_hash(value text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN value <> '' THEN hashtextextended(value COLLATE "C", 0) END
$$;

CREATE FUNCTION text_hashes(texts text[]) RETURNS bigint[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(hashtextextended(value COLLATE "C", 0)), '{}')
    FROM unnest(texts) AS value
$$;

-- The words of an asset in lower case. Punctuation and spaces of ASCII separate them, in every locale.
-- It takes 0.2 ms, so its cost keeps the planner from computing it where the index has it.
CREATE FUNCTION search_words(name text, strings text[], tags text[]) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 20000 AS $$
    SELECT coalesce(array_to_tsvector(array_agg(DISTINCT left(word, 64))), ''::tsvector)
    FROM unnest(array_append(strings || tags, name)) AS value,
        regexp_split_to_table(
            lower(left(value, 1000) COLLATE "default"),
            '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u007f]+') AS word
    WHERE word <> ''
$$;

-- Generated columns, because an index-only scan cannot read an expression. `visibility`: 0 nothing to
-- show, 1 the public sees something, 2 a role is needed to see anything (model.py, public_edge).
ALTER TABLE assets
    ADD COLUMN string1_hash bigint GENERATED ALWAYS AS (text_hash(strings[1])) STORED,
    ADD COLUMN string2_hash bigint GENERATED ALWAYS AS (text_hash(strings[2])) STORED,
    ADD COLUMN string3_hash bigint GENERATED ALWAYS AS (text_hash(strings[3])) STORED,
    ADD COLUMN visibility smallint GENERATED ALWAYS AS (
        CASE
            WHEN source IS NULL OR width = 0 OR (
                state = 'failed' AND thumbnails_version = 0
                AND error_code IN ('damaged', 'unsupported', 'not_an_image')) THEN 0
            WHEN max_unauthorised > 0 OR (max_unauthorised < 0 AND roles = '{}') THEN 1
            ELSE 2
        END) STORED;

-- They have what selections read of each row, so that 100,000 rows are ordered and counted in tens of
-- milliseconds without the table. Assets without a reference take no room in the partial ones.
CREATE INDEX assets_listed ON assets (customer, space, name) INCLUDE (numbers, visibility);
CREATE INDEX assets_string1 ON assets (customer, string1_hash, space, name)
    INCLUDE (numbers, visibility) WHERE string1_hash IS NOT NULL;
CREATE INDEX assets_string2 ON assets (customer, string2_hash, space, name)
    INCLUDE (numbers, visibility) WHERE string2_hash IS NOT NULL;
CREATE INDEX assets_string3 ON assets (customer, string3_hash, space, name)
    INCLUDE (numbers, visibility) WHERE string3_hash IS NOT NULL;
CREATE INDEX assets_number1 ON assets (customer, (numbers[1]), space, name)
    INCLUDE (numbers, visibility) WHERE numbers[1] <> 0;
CREATE INDEX assets_number2 ON assets (customer, (numbers[2]), space, name)
    INCLUDE (numbers, visibility) WHERE numbers[2] <> 0;
CREATE INDEX assets_number3 ON assets (customer, (numbers[3]), space, name)
    INCLUDE (numbers, visibility) WHERE numbers[3] <> 0;
CREATE INDEX assets_batch ON assets (customer, batch, space, name)
    INCLUDE (numbers, visibility) WHERE batch IS NOT NULL;
CREATE INDEX assets_tags ON assets USING gin (text_hashes(tags)) WHERE tags <> '{}';
CREATE INDEX assets_manifests ON assets USING gin (text_hashes(manifests)) WHERE manifests <> '{}';
CREATE INDEX assets_words ON assets USING gin (search_words(name, strings, tags));
