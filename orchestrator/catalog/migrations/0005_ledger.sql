-- Objects that were stored before there was a ledger: entered as live, under the keys they were given
-- (storage/keys.py). What thumbnails take up was not recorded then, and is not charged for.
WITH segments AS (
    SELECT customer, space, name, version, thumbnails, thumbnails_version, source,
        (SELECT string_agg(
            CASE WHEN letter ~ '[A-Za-z0-9._-]' OR ascii(letter) > 127 THEN letter
                ELSE '%' || lpad(upper(to_hex(ascii(letter))), 2, '0') END, '' ORDER BY place)
         FROM unnest(string_to_array(name, NULL)) WITH ORDINALITY AS letters (letter, place)
        ) AS segment
    FROM assets
), prefixes AS (
    SELECT *, CASE
        WHEN source ->> 'location' LIKE 'store:%'
            THEN substring(source ->> 'location' FROM '^store:(.*/)[0-9]+/[^/]+$')
        WHEN octet_length(segment) <= 240 THEN format('%s/%s/%s/', customer, space, segment)
    END AS prefix
    FROM segments
), found AS (
    SELECT customer, space, name, version, substr(source ->> 'location', 7) AS key,
        CASE WHEN source ->> 'location' LIKE '%/original' THEN 'original' ELSE 'source' END AS kind,
        (source ->> 'bytes')::bigint AS bytes
    FROM prefixes WHERE source ->> 'location' LIKE 'store:%'
    UNION ALL
    SELECT customer, space, name, thumbnails_version, prefix || thumbnails_version || '/s.json',
        'sizes', 0
    FROM prefixes WHERE thumbnails_version > 0 AND prefix IS NOT NULL
    UNION ALL
    SELECT customer, space, name, thumbnails_version,
        format('%s%s/%s/%s.jpg', prefix, thumbnails_version, filed.access,
            greatest((size -> 0)::int, (size -> 1)::int)),
        'thumbnail', 0
    FROM prefixes, (VALUES ('o', 'open'), ('a', 'auth')) AS filed (short, access),
        jsonb_array_elements(thumbnails -> filed.short) AS sizes (size)
    WHERE thumbnails_version > 0 AND prefix IS NOT NULL
)
INSERT INTO stored_objects (key, customer, space, name, version, kind, bytes, state)
SELECT key, customer, space, name, version, kind, bytes, 'live' FROM found
ON CONFLICT DO NOTHING;

INSERT INTO customer_storage (customer, images, stored)
SELECT customer, count(DISTINCT (space, name)), sum(bytes) FROM stored_objects
WHERE state = 'live' AND kind <> 'sizes' GROUP BY customer
ON CONFLICT (customer) DO UPDATE SET images = excluded.images, stored = excluded.stored;
