--
-- PostgreSQL database dump
--

\restrict HdBLKYKBPFneZ1Jfv4fFGVPkqgtUpB1869Xrju8QJW09gvspqgfHC5ZnmQxNZjB

-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: pgqueuer_status; Type: TYPE; Schema: public; Owner: -
--

CREATE TYPE public.pgqueuer_status AS ENUM (
    'queued',
    'picked',
    'successful',
    'exception',
    'canceled',
    'deleted',
    'failed'
);


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: jobs; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.jobs (
    id bigint NOT NULL,
    kind text NOT NULL,
    lane text NOT NULL,
    customer integer NOT NULL,
    host text DEFAULT ''::text NOT NULL,
    asset text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    batch bigint,
    payload jsonb NOT NULL,
    state text DEFAULT 'queued'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    due timestamp with time zone DEFAULT now() NOT NULL,
    worker text DEFAULT ''::text NOT NULL,
    heartbeat timestamp with time zone,
    fault jsonb,
    dedupe text,
    announced timestamp with time zone,
    created timestamp with time zone DEFAULT now() NOT NULL,
    started timestamp with time zone,
    finished timestamp with time zone,
    begun timestamp with time zone,
    CONSTRAINT jobs_lane_check CHECK ((lane = ANY (ARRAY['normal'::text, 'priority'::text]))),
    CONSTRAINT jobs_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'running'::text, 'done'::text, 'failed'::text, 'cancelled'::text])))
);


--
-- Name: claim_job(text, text[], text[], integer); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.claim_job(claimant text, of_kinds text[], in_lanes text[], host_limit integer) RETURNS SETOF public.jobs
    LANGUAGE plpgsql
    AS $$
DECLARE
    full_hosts text[];
    busy_assets text[];
    wanted text;
    turn integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('claim_job', 0));
    full_hosts := ARRAY(
        SELECT host FROM jobs WHERE state = 'running' AND host <> ''
        GROUP BY host HAVING count(*) >= host_limit);
    busy_assets := ARRAY(SELECT asset FROM jobs WHERE state = 'running' AND asset <> '');
    FOREACH wanted IN ARRAY in_lanes LOOP
        FOR turn IN
            WITH RECURSIVE waiting AS (  -- each customer by one step down the index
                (SELECT customer, due, id FROM jobs WHERE state = 'queued' AND lane = wanted
                 ORDER BY customer, due, id LIMIT 1)
                UNION ALL
                SELECT next.* FROM waiting, LATERAL (
                    SELECT jobs.customer, jobs.due, jobs.id FROM jobs
                    WHERE state = 'queued' AND lane = wanted AND jobs.customer > waiting.customer
                    ORDER BY jobs.customer, jobs.due, jobs.id LIMIT 1) AS next
            ), busy AS (
                SELECT customer, count(*) AS running FROM jobs WHERE state = 'running'
                GROUP BY customer
            )
            SELECT waiting.customer FROM waiting LEFT JOIN busy USING (customer)
            WHERE waiting.due <= clock_timestamp()
            ORDER BY coalesce(busy.running, 0), waiting.due, waiting.id
        LOOP
            RETURN QUERY
                UPDATE jobs SET state = 'running', worker = claimant, attempts = jobs.attempts + 1,
                    heartbeat = clock_timestamp(), started = clock_timestamp(),
                    begun = coalesce(jobs.begun, clock_timestamp())
                WHERE jobs.id = (
                    SELECT best.id FROM jobs AS best
                    WHERE best.state = 'queued' AND best.lane = wanted AND best.customer = turn
                        AND best.due <= clock_timestamp() AND best.kind = ANY (of_kinds)
                        AND best.host <> ALL (full_hosts) AND best.asset <> ALL (busy_assets)
                    ORDER BY best.due, best.id LIMIT 1 FOR UPDATE SKIP LOCKED)
                RETURNING jobs.*;
            IF FOUND THEN
                RETURN;
            END IF;
        END LOOP;
    END LOOP;
END $$;


--
-- Name: fn_pgqueuer_changed(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.fn_pgqueuer_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    to_emit BOOLEAN := false;  -- Flag to decide whether to emit a notification
BEGIN
    -- Check operation type and set the emit flag accordingly
    IF TG_OP = 'UPDATE' AND OLD IS DISTINCT FROM NEW THEN
        to_emit := true;
    ELSIF TG_OP = 'DELETE' THEN
        to_emit := true;
    ELSIF TG_OP = 'INSERT' THEN
        to_emit := true;
    ELSIF TG_OP = 'TRUNCATE' THEN
        to_emit := true;
    END IF;

    -- Perform notification if the emit flag is set
    IF to_emit THEN
        PERFORM pg_notify(
            'ch_pgqueuer',
            json_build_object(
                'channel', 'ch_pgqueuer',
                'operation', lower(TG_OP),
                'sent_at', NOW(),
                'table', TG_TABLE_NAME,
                'type', 'table_changed_event'
            )::text
        );
    END IF;

    -- Return appropriate value based on the operation
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        RETURN NEW;
    ELSIF TG_OP = 'DELETE' THEN
        RETURN OLD;
    ELSE
        RETURN NULL; -- For TRUNCATE and other non-row-specific contexts
    END IF;

END;
$$;


--
-- Name: keep_asset_change(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.keep_asset_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO asset_changes (asset, version) VALUES (
        format('%s/%s/%s', OLD.customer, OLD.space,
            replace(replace(OLD.name, '%', '%25'), '/', '%2F')),
        CASE WHEN TG_OP = 'DELETE' THEN 0 ELSE NEW.version END);
    RETURN NULL;
END $$;


--
-- Name: aliases; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.aliases (
    alias text NOT NULL COLLATE pg_catalog."C",
    customer integer NOT NULL,
    space integer NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C"
);


--
-- Name: api_keys; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.api_keys (
    id text NOT NULL,
    customer integer NOT NULL,
    secret_hash bytea NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    revoked timestamp with time zone,
    admin boolean DEFAULT false NOT NULL
);


--
-- Name: asset_changes; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.asset_changes (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    asset text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL
);


--
-- Name: asset_changes_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.asset_changes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.asset_changes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: asset_versions; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.asset_versions
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: assets; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.assets (
    customer integer NOT NULL,
    space integer NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    state text NOT NULL,
    width integer DEFAULT 0 NOT NULL,
    height integer DEFAULT 0 NOT NULL,
    origin text DEFAULT ''::text NOT NULL,
    origin_fingerprint text DEFAULT ''::text NOT NULL,
    media_type text DEFAULT ''::text NOT NULL,
    optimisation_policy text DEFAULT ''::text NOT NULL,
    thumbnail_policy text DEFAULT ''::text NOT NULL,
    roles text[] DEFAULT '{}'::text[] NOT NULL,
    max_unauthorised integer DEFAULT '-1'::integer NOT NULL,
    strings text[] DEFAULT '{"","",""}'::text[] NOT NULL,
    numbers bigint[] DEFAULT '{0,0,0}'::bigint[] NOT NULL,
    tags text[] DEFAULT '{}'::text[] NOT NULL,
    rights text DEFAULT ''::text NOT NULL,
    thumbnails jsonb DEFAULT '{"a": [], "o": []}'::jsonb NOT NULL,
    thumbnails_version bigint DEFAULT 0 NOT NULL,
    source jsonb,
    error text DEFAULT ''::text NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    updated timestamp with time zone DEFAULT now() NOT NULL,
    origin_etag text DEFAULT ''::text NOT NULL,
    origin_sha256 text DEFAULT ''::text NOT NULL,
    batch bigint,
    finished timestamp with time zone,
    declared timestamp with time zone,
    pinned boolean DEFAULT false NOT NULL,
    orchestrate boolean DEFAULT true NOT NULL,
    CONSTRAINT assets_numbers_check CHECK ((cardinality(numbers) = 3)),
    CONSTRAINT assets_strings_check CHECK ((cardinality(strings) = 3))
);


--
-- Name: batches; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.batches (
    id bigint NOT NULL,
    customer integer NOT NULL,
    lane text NOT NULL,
    count integer NOT NULL,
    completed integer DEFAULT 0 NOT NULL,
    errors integer DEFAULT 0 NOT NULL,
    cancelled integer DEFAULT 0 NOT NULL,
    submitted timestamp with time zone DEFAULT now() NOT NULL,
    finished timestamp with time zone,
    CONSTRAINT batches_check CHECK ((((completed + errors) + cancelled) <= count)),
    CONSTRAINT batches_count_check CHECK ((count >= 0)),
    CONSTRAINT batches_lane_check CHECK ((lane = ANY (ARRAY['normal'::text, 'priority'::text])))
);


--
-- Name: batches_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.batches ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.batches_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: customer_storage; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.customer_storage (
    customer integer NOT NULL,
    max_images bigint,
    max_bytes bigint,
    images bigint DEFAULT 0 NOT NULL,
    stored bigint DEFAULT 0 NOT NULL
);


--
-- Name: customers; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.customers (
    id integer NOT NULL,
    name text NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT customers_id_check CHECK ((id > 0)),
    CONSTRAINT customers_name_check CHECK ((name <> ''::text))
);


--
-- Name: ingest_attempts; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.ingest_attempts (
    id bigint NOT NULL,
    customer integer NOT NULL,
    space integer NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    job bigint,
    version bigint,
    outcome text NOT NULL,
    bytes bigint DEFAULT 0 NOT NULL,
    fault jsonb,
    started timestamp with time zone NOT NULL,
    finished timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ingest_attempts_outcome_check CHECK ((outcome = ANY (ARRAY['completed'::text, 'unchanged'::text, 'failed'::text])))
);


--
-- Name: ingest_attempts_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.ingest_attempts ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.ingest_attempts_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: jobs_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.jobs ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.jobs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: migrations; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.migrations (
    name text NOT NULL,
    digest text NOT NULL,
    applied timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: origin_strategies; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.origin_strategies (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    customer integer NOT NULL,
    place integer DEFAULT 0 NOT NULL,
    regex text NOT NULL,
    strategy text NOT NULL,
    credentials text DEFAULT ''::text NOT NULL,
    optimised boolean DEFAULT false NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    updated timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT origin_strategies_regex_check CHECK ((regex <> ''::text))
);


--
-- Name: pgqueuer; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.pgqueuer (
    id bigint NOT NULL,
    priority integer NOT NULL,
    queue_manager_id uuid,
    created timestamp with time zone DEFAULT now() NOT NULL,
    updated timestamp with time zone DEFAULT now() NOT NULL,
    heartbeat timestamp with time zone DEFAULT now() NOT NULL,
    execute_after timestamp with time zone DEFAULT now() NOT NULL,
    status public.pgqueuer_status NOT NULL,
    entrypoint text NOT NULL,
    dedupe_key text,
    payload bytea,
    headers jsonb,
    attempts integer DEFAULT 0 NOT NULL,
    slot bigint
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='1000', autovacuum_analyze_scale_factor='0.02', autovacuum_analyze_threshold='500', autovacuum_vacuum_cost_limit='10000', autovacuum_vacuum_cost_delay='0', fillfactor='70');


--
-- Name: pgqueuer_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.pgqueuer_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: pgqueuer_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.pgqueuer_id_seq OWNED BY public.pgqueuer.id;


--
-- Name: pgqueuer_log; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.pgqueuer_log (
    id bigint NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    job_id bigint NOT NULL,
    status public.pgqueuer_status NOT NULL,
    priority integer NOT NULL,
    entrypoint text NOT NULL,
    traceback jsonb,
    aggregated boolean DEFAULT false
)
WITH (autovacuum_vacuum_scale_factor='0.95', autovacuum_vacuum_threshold='1000000', autovacuum_analyze_scale_factor='0.05', autovacuum_analyze_threshold='10000');


--
-- Name: pgqueuer_log_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.pgqueuer_log ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.pgqueuer_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: pgqueuer_schedules; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.pgqueuer_schedules (
    id bigint NOT NULL,
    expression text NOT NULL,
    entrypoint text NOT NULL,
    heartbeat timestamp with time zone DEFAULT now() NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    updated timestamp with time zone DEFAULT now() NOT NULL,
    next_run timestamp with time zone DEFAULT now() NOT NULL,
    last_run timestamp with time zone,
    status public.pgqueuer_status DEFAULT 'queued'::public.pgqueuer_status
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='1000', autovacuum_analyze_scale_factor='0.02', autovacuum_analyze_threshold='500', autovacuum_vacuum_cost_limit='10000', autovacuum_vacuum_cost_delay='0', fillfactor='70');


--
-- Name: pgqueuer_schedules_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.pgqueuer_schedules_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: pgqueuer_schedules_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.pgqueuer_schedules_id_seq OWNED BY public.pgqueuer_schedules.id;


--
-- Name: pgqueuer_statistics; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.pgqueuer_statistics (
    id bigint NOT NULL,
    created timestamp with time zone DEFAULT date_trunc('sec'::text, now()) NOT NULL,
    count bigint NOT NULL,
    priority integer NOT NULL,
    status public.pgqueuer_status NOT NULL,
    entrypoint text NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.95', autovacuum_vacuum_threshold='1000000', autovacuum_analyze_scale_factor='0.05', autovacuum_analyze_threshold='10000');


--
-- Name: pgqueuer_statistics_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.pgqueuer_statistics_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: pgqueuer_statistics_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.pgqueuer_statistics_id_seq OWNED BY public.pgqueuer_statistics.id;


--
-- Name: policies; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.policies (
    kind text NOT NULL,
    customer integer DEFAULT 0 NOT NULL,
    name text NOT NULL,
    definition jsonb NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    updated timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT policies_kind_check CHECK ((kind = ANY (ARRAY['optimisation'::text, 'thumbnail'::text]))),
    CONSTRAINT policies_name_check CHECK ((name <> ''::text))
);


--
-- Name: quota_reservations; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.quota_reservations (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    customer integer NOT NULL,
    asset text NOT NULL COLLATE pg_catalog."C",
    bytes bigint NOT NULL,
    images integer DEFAULT 0 NOT NULL,
    expires timestamp with time zone NOT NULL,
    CONSTRAINT quota_reservations_bytes_check CHECK ((bytes >= 0))
);


--
-- Name: shared_files; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.shared_files (
    folder uuid NOT NULL,
    asset text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    text text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    bytes bigint NOT NULL,
    writer text DEFAULT ''::text NOT NULL,
    temp text DEFAULT ''::text NOT NULL,
    last_used timestamp with time zone DEFAULT now() NOT NULL,
    lease_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    pinned boolean DEFAULT false NOT NULL,
    doomed boolean DEFAULT false NOT NULL,
    CONSTRAINT shared_files_bytes_check CHECK ((bytes >= 0))
);


--
-- Name: shared_folders; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.shared_folders (
    id uuid NOT NULL,
    known boolean NOT NULL,
    owner text DEFAULT ''::text NOT NULL,
    host text DEFAULT ''::text NOT NULL,
    term bigint DEFAULT 0 NOT NULL,
    lease_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL
);


--
-- Name: shared_holders; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.shared_holders (
    folder uuid NOT NULL,
    holder text NOT NULL,
    host text NOT NULL,
    quota bigint NOT NULL,
    expires timestamp with time zone NOT NULL
);


--
-- Name: stored_objects; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.stored_objects (
    key text NOT NULL COLLATE pg_catalog."C",
    customer integer NOT NULL,
    space integer NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    kind text NOT NULL,
    bytes bigint DEFAULT 0 NOT NULL,
    state text NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT stored_objects_kind_check CHECK ((kind = ANY (ARRAY['source'::text, 'original'::text, 'thumbnail'::text, 'sizes'::text]))),
    CONSTRAINT stored_objects_state_check CHECK ((state = ANY (ARRAY['writing'::text, 'live'::text, 'unwanted'::text])))
);


--
-- Name: pgqueuer id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pgqueuer ALTER COLUMN id SET DEFAULT nextval('public.pgqueuer_id_seq'::regclass);


--
-- Name: pgqueuer_schedules id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pgqueuer_schedules ALTER COLUMN id SET DEFAULT nextval('public.pgqueuer_schedules_id_seq'::regclass);


--
-- Name: pgqueuer_statistics id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pgqueuer_statistics ALTER COLUMN id SET DEFAULT nextval('public.pgqueuer_statistics_id_seq'::regclass);


--
-- Data for Name: aliases; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: api_keys; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.api_keys VALUES ('4e9828087e76e814', 1, '\x1838b7707d380eca786f0d684e4649fe2582a95d681d7cd5d59bb1115d84628b', '2026-11-27 15:17:50.391264+00', NULL, false);


--
-- Data for Name: asset_changes; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.asset_changes OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-27 15:17:50.692129+00', '1/1/done', 6);
INSERT INTO public.asset_changes OVERRIDING SYSTEM VALUE VALUES (2, '2026-11-27 15:17:50.746948+00', '1/1/done', 7);
INSERT INTO public.asset_changes OVERRIDING SYSTEM VALUE VALUES (3, '2026-11-27 15:17:50.915548+00', '1/1/done', 8);
INSERT INTO public.asset_changes OVERRIDING SYSTEM VALUE VALUES (4, '2026-11-27 15:17:52.885459+00', '1/1/second', 10);
INSERT INTO public.asset_changes OVERRIDING SYSTEM VALUE VALUES (5, '2026-11-27 15:17:53.354479+00', '1/1/waiting-0', 15);
INSERT INTO public.asset_changes OVERRIDING SYSTEM VALUE VALUES (6, '2026-11-27 15:17:59.403377+00', '1/1/waiting-1', 16);


--
-- Data for Name: assets; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.assets VALUES (1, 1, 'first', 1, 'ready', 600, 400, '@FOLDER@/first.jpg', '1795792661183179627-13225', 'image/jpeg', 'fastest', 'default', '{}', -1, '{"","",""}', '{0,0,0}', '{}', '', '{"a": [], "o": [[600, 400], [400, 267], [200, 133], [100, 67]]}', 3, '{"kind": "pyramid-tiff", "bytes": 139009, "levels": 2, "location": "store:1/1/first/3/source.tif", "extension": "tif", "tile_width": 256, "fingerprint": "\"99375176304da1898c87560f8891a2ec\"", "tile_height": 256, "natively_tiled": true}', '', '2026-11-27 15:17:48.117922+00', '2026-11-27 15:17:48.117922+00', '', '', NULL, '2026-11-27 15:17:48.245646+00', NULL, false, true);
INSERT INTO public.assets VALUES (1, 1, 'waiting-0', 15, 'ingesting', 0, 0, '@ORIGIN@/slow/0.jpg', '', '', '', '', '{}', -1, '{"n 0","",""}', '{0,0,0}', '{}', '', '{"a": [], "o": []}', 0, NULL, '', '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:53.294983+00', '', '', 2, NULL, '2026-11-27 15:17:53.35291+00', false, true);
INSERT INTO public.assets VALUES (1, 1, 'done', 8, 'ready', 600, 400, '@ORIGIN@/ready/done.jpg', 'f5b6fc16d4f233487ac002c8a2278a14433d1f48a84f789aee23dcc7258313c4', 'image/jpeg', 'fast-lossy', 'default', '{}', -1, '{"","",""}', '{0,0,0}', '{}', '', '{"a": [], "o": [[600, 400], [400, 267], [200, 133], [100, 67]]}', 8, '{"kind": "jpeg2000", "bytes": 28734, "levels": 1, "location": "store:1/1/done/8/source.jp2", "extension": "jp2", "tile_width": 512, "fingerprint": "\"2d984f55c0befdc1b41ee28a06b23227\"", "tile_height": 400, "natively_tiled": true}', '', '2026-11-27 15:17:50.651607+00', '2026-11-27 15:17:50.911682+00', '', 'f5b6fc16d4f233487ac002c8a2278a14433d1f48a84f789aee23dcc7258313c4', 1, '2026-11-27 15:17:50.911682+00', '2026-11-27 15:17:50.691131+00', false, true);
INSERT INTO public.assets VALUES (1, 1, 'second', 10, 'ready', 500, 700, '@FOLDER@/second.jpg', '1795792661251769809-17528', 'image/jpeg', 'fastest', 'default', '{staff}', 200, '{"","",""}', '{0,0,0}', '{}', '', '{"a": [[500, 700], [286, 400]], "o": [[143, 200], [71, 100]]}', 9, '{"kind": "pyramid-tiff", "bytes": 196665, "levels": 2, "location": "store:1/1/second/4/source.tif", "extension": "tif", "tile_width": 256, "fingerprint": "\"f0944409f4eef4e015387926d798492f\"", "tile_height": 256, "natively_tiled": true}', '', '2026-11-27 15:17:48.12335+00', '2026-11-27 15:17:52.876745+00', '', '', NULL, '2026-11-27 15:17:48.340543+00', NULL, false, true);
INSERT INTO public.assets VALUES (1, 1, 'waiting-2', 13, 'ingesting', 0, 0, '@ORIGIN@/slow/2.jpg', '', '', '', '', '{}', -1, '{"n 2","",""}', '{0,0,0}', '{}', '', '{"a": [], "o": []}', 0, NULL, '', '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:53.294983+00', '', '', 2, NULL, '2026-11-27 15:17:53.294983+00', false, true);
INSERT INTO public.assets VALUES (1, 1, 'waiting-1', 16, 'ingesting', 0, 0, '@ORIGIN@/slow/1.jpg', '', '', '', '', '{}', -1, '{"n 1","",""}', '{0,0,0}', '{}', '', '{"a": [], "o": []}', 0, NULL, '', '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:53.294983+00', '', '', 2, NULL, '2026-11-27 15:17:59.396466+00', false, true);
INSERT INTO public.assets VALUES (1, 1, 'waiting-3', 14, 'ingesting', 0, 0, '@ORIGIN@/slow/3.jpg', '', '', '', '', '{}', -1, '{"n 3","",""}', '{0,0,0}', '{}', '', '{"a": [], "o": []}', 0, NULL, '', '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:53.294983+00', '', '', 2, NULL, '2026-11-27 15:17:53.294983+00', false, true);
INSERT INTO public.assets VALUES (1, 1, 'third', 17, 'registered', 640, 480, '@FOLDER@/third.jpg', '1795792674939179485-15253', 'image/jpeg', 'fastest', 'default', '{}', -1, '{"","",""}', '{0,0,0}', '{}', '', '{"a": [], "o": [[640, 480], [400, 300], [200, 150], [100, 75]]}', 0, '{"kind": "original", "bytes": 15253, "levels": 2, "location": "file://@FOLDER@/third.jpg", "extension": "jpg", "tile_width": 256, "fingerprint": "1795792674939179485-15253", "tile_height": 256, "natively_tiled": false}', '', '2026-11-27 15:18:00.5575+00', '2026-11-27 15:18:00.5575+00', '', '', NULL, '2026-11-27 15:18:00.5575+00', NULL, false, true);
INSERT INTO public.assets VALUES (1, 1, 'fourth', 18, 'registered', 400, 640, '@FOLDER@/fourth.jpg', '1795792674950557326-12848', 'image/jpeg', 'fastest', 'default', '{}', -1, '{"","",""}', '{0,0,0}', '{}', '', '{"a": [], "o": [[400, 640], [250, 400], [125, 200], [63, 100]]}', 0, '{"kind": "original", "bytes": 12848, "levels": 2, "location": "file://@FOLDER@/fourth.jpg", "extension": "jpg", "tile_width": 256, "fingerprint": "1795792674950557326-12848", "tile_height": 256, "natively_tiled": false}', '', '2026-11-27 15:18:00.551625+00', '2026-11-27 15:18:00.551625+00', '', '', NULL, '2026-11-27 15:18:00.551625+00', NULL, false, true);


--
-- Data for Name: batches; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.batches OVERRIDING SYSTEM VALUE VALUES (1, 1, 'normal', 1, 1, 0, 0, '2026-11-27 15:17:50.651607+00', '2026-11-27 15:17:50.940255+00');
INSERT INTO public.batches OVERRIDING SYSTEM VALUE VALUES (2, 1, 'normal', 4, 0, 0, 0, '2026-11-27 15:17:53.294983+00', NULL);


--
-- Data for Name: customer_storage; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.customer_storage VALUES (1, NULL, NULL, 3, 665143);


--
-- Data for Name: customers; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.customers VALUES (1, 'main', '2026-11-27 15:17:45.708027+00');


--
-- Data for Name: ingest_attempts; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.ingest_attempts OVERRIDING SYSTEM VALUE VALUES (1, 1, 1, 'done', 1, 8, 'completed', 13225, NULL, '2026-11-27 15:17:50.68916+00', '2026-11-27 15:17:50.911682+00');


--
-- Data for Name: jobs; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.jobs OVERRIDING SYSTEM VALUE VALUES (1, 'ingest', 'normal', 1, '127.0.0.1', '1/1/done', 1, '{"id": {"asset": "done", "space": 1, "customer": 1}, "origin": "@ORIGIN@/ready/done.jpg"}', 'done', 1, '2026-11-27 15:17:50.660233+00', 'vm:11325:f7a545d7/1', '2026-11-27 15:17:50.686926+00', NULL, NULL, '2026-11-27 15:17:50.669961+00', '2026-11-27 15:17:50.651607+00', '2026-11-27 15:17:50.686926+00', '2026-11-27 15:17:50.94003+00', '2026-11-27 15:17:50.686926+00');
INSERT INTO public.jobs OVERRIDING SYSTEM VALUE VALUES (4, 'ingest', 'normal', 1, '127.0.0.1', '1/1/waiting-2', 2, '{"id": {"asset": "waiting-2", "space": 1, "customer": 1}, "origin": "@ORIGIN@/slow/2.jpg", "strings": ["n 2", "", ""]}', 'queued', 0, '2026-11-27 15:17:53.313759+00', '', NULL, NULL, NULL, '2026-11-27 15:17:53.328931+00', '2026-11-27 15:17:53.294983+00', NULL, NULL, NULL);
INSERT INTO public.jobs OVERRIDING SYSTEM VALUE VALUES (5, 'ingest', 'normal', 1, '127.0.0.1', '1/1/waiting-3', 2, '{"id": {"asset": "waiting-3", "space": 1, "customer": 1}, "origin": "@ORIGIN@/slow/3.jpg", "strings": ["n 3", "", ""]}', 'queued', 0, '2026-11-27 15:17:53.313769+00', '', NULL, NULL, NULL, '2026-11-27 15:17:53.328949+00', '2026-11-27 15:17:53.294983+00', NULL, NULL, NULL);
INSERT INTO public.jobs OVERRIDING SYSTEM VALUE VALUES (2, 'ingest', 'normal', 1, '127.0.0.1', '1/1/waiting-0', 2, '{"id": {"asset": "waiting-0", "space": 1, "customer": 1}, "origin": "@ORIGIN@/slow/0.jpg", "strings": ["n 0", "", ""]}', 'running', 1, '2026-11-27 15:17:53.3135+00', 'vm:11325:f7a545d7/2', '2026-11-27 15:17:53.346722+00', NULL, NULL, '2026-11-27 15:17:53.32876+00', '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:53.346723+00', NULL, '2026-11-27 15:17:53.346723+00');
INSERT INTO public.jobs OVERRIDING SYSTEM VALUE VALUES (3, 'ingest', 'normal', 1, '127.0.0.1', '1/1/waiting-1', 2, '{"id": {"asset": "waiting-1", "space": 1, "customer": 1}, "origin": "@ORIGIN@/slow/1.jpg", "strings": ["n 1", "", ""]}', 'running', 1, '2026-11-27 15:17:53.313731+00', 'vm:11759:20657a25/1', '2026-11-27 15:17:59.34133+00', NULL, NULL, '2026-11-27 15:17:53.328902+00', '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:59.34133+00', NULL, '2026-11-27 15:17:59.34133+00');


--
-- Data for Name: migrations; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.migrations VALUES ('0001_catalogue', '242743edbc8e7e91360b2e52aa4c72e4e6b7e7e5547f89f0fb65da6f6d6fef32', '2026-11-27 15:17:45.557363+00');
INSERT INTO public.migrations VALUES ('0002_engine', 'b5d3faaa3c3ea23ff9cc32f6e263e24fe5acf5cc12ce85b25812b895c1fb965e', '2026-11-27 15:17:45.575101+00');
INSERT INTO public.migrations VALUES ('0003_cache', '8860d498fa14d04a308de77b980e6e3d7433c9800f73ca7c5f6f3cc418cce89f', '2026-11-27 15:17:45.635788+00');
INSERT INTO public.migrations VALUES ('0004_pgqueuer', '7ae48186999496ee247c6054ea0ed64e921265edf4a2141281458b65c0b2dd74', '2026-11-27 15:17:45.647912+00');
INSERT INTO public.migrations VALUES ('0005_ledger', 'acd0e2cdc4ba022ca0168a2d71f0fc264b9de9e2742f714e9ac80df0a6dc8400', '2026-11-27 15:17:45.681118+00');
INSERT INTO public.migrations VALUES ('0006_claims', 'c4970cf0deb34900863f1c402eca1e02b20c0cdb8a6900c99ff2e42b78dc131f', '2026-11-27 15:17:45.689716+00');
INSERT INTO public.migrations VALUES ('0007_doomed', 'b992a2ea74adc80f65fb59f8cba7d105f8b52e0832125edc3e8cfc156bc757be', '2026-11-27 15:17:45.691174+00');


--
-- Data for Name: origin_strategies; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: pgqueuer; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.pgqueuer VALUES (4, 1, NULL, '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:53.294983+00', 'queued', 'normal', NULL, '\x34', '"null"', 0, NULL);
INSERT INTO public.pgqueuer VALUES (5, 1, NULL, '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:53.294983+00', 'queued', 'normal', NULL, '\x35', '"null"', 0, NULL);
INSERT INTO public.pgqueuer VALUES (2, 1, 'e353e278-f03a-4902-b7a8-be338f981512', '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:53.330561+00', '2026-11-27 15:17:53.330561+00', '2026-11-27 15:17:53.294983+00', 'picked', 'normal', NULL, '\x32', '"null"', 0, NULL);
INSERT INTO public.pgqueuer VALUES (3, 1, '8ef9cd2a-08db-4746-b6e2-950a8904f63c', '2026-11-27 15:17:53.294983+00', '2026-11-27 15:17:59.324394+00', '2026-11-27 15:17:59.324394+00', '2026-11-27 15:17:53.294983+00', 'picked', 'normal', NULL, '\x33', '"null"', 0, NULL);


--
-- Data for Name: pgqueuer_log; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.pgqueuer_log VALUES (1, '2026-11-27 15:17:50.651607+00', 1, 'queued', 1, 'normal', NULL, false);
INSERT INTO public.pgqueuer_log VALUES (2, '2026-11-27 15:17:50.6802+00', 1, 'picked', 1, 'normal', NULL, false);
INSERT INTO public.pgqueuer_log VALUES (3, '2026-11-27 15:17:50.949143+00', 1, 'successful', 1, 'normal', NULL, false);
INSERT INTO public.pgqueuer_log VALUES (4, '2026-11-27 15:17:53.294983+00', 2, 'queued', 1, 'normal', NULL, false);
INSERT INTO public.pgqueuer_log VALUES (5, '2026-11-27 15:17:53.294983+00', 3, 'queued', 1, 'normal', NULL, false);
INSERT INTO public.pgqueuer_log VALUES (6, '2026-11-27 15:17:53.294983+00', 4, 'queued', 1, 'normal', NULL, false);
INSERT INTO public.pgqueuer_log VALUES (7, '2026-11-27 15:17:53.294983+00', 5, 'queued', 1, 'normal', NULL, false);
INSERT INTO public.pgqueuer_log VALUES (8, '2026-11-27 15:17:53.330561+00', 2, 'picked', 1, 'normal', NULL, false);
INSERT INTO public.pgqueuer_log VALUES (9, '2026-11-27 15:17:59.324394+00', 3, 'picked', 1, 'normal', NULL, false);


--
-- Data for Name: pgqueuer_schedules; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: pgqueuer_statistics; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: policies; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: quota_reservations; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: shared_files; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: shared_folders; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: shared_holders; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: stored_objects; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.stored_objects VALUES ('1/1/first/3/source.tif', 1, 1, 'first', 3, 'source', 139009, 'live', '2026-11-27 15:17:48.245646+00');
INSERT INTO public.stored_objects VALUES ('1/1/first/3/open/600.jpg', 1, 1, 'first', 3, 'thumbnail', 42678, 'live', '2026-11-27 15:17:48.245646+00');
INSERT INTO public.stored_objects VALUES ('1/1/first/3/open/400.jpg', 1, 1, 'first', 3, 'thumbnail', 30394, 'live', '2026-11-27 15:17:48.245646+00');
INSERT INTO public.stored_objects VALUES ('1/1/first/3/open/200.jpg', 1, 1, 'first', 3, 'thumbnail', 12481, 'live', '2026-11-27 15:17:48.245646+00');
INSERT INTO public.stored_objects VALUES ('1/1/first/3/open/100.jpg', 1, 1, 'first', 3, 'thumbnail', 5411, 'live', '2026-11-27 15:17:48.245646+00');
INSERT INTO public.stored_objects VALUES ('1/1/first/3/s.json', 1, 1, 'first', 3, 'sizes', 53, 'live', '2026-11-27 15:17:48.245646+00');
INSERT INTO public.stored_objects VALUES ('1/1/second/4/source.tif', 1, 1, 'second', 4, 'source', 196665, 'live', '2026-11-27 15:17:48.340543+00');
INSERT INTO public.stored_objects VALUES ('1/1/done/8/source.jp2', 1, 1, 'done', 8, 'source', 28734, 'live', '2026-11-27 15:17:50.911682+00');
INSERT INTO public.stored_objects VALUES ('1/1/done/8/open/600.jpg', 1, 1, 'done', 8, 'thumbnail', 41190, 'live', '2026-11-27 15:17:50.911682+00');
INSERT INTO public.stored_objects VALUES ('1/1/done/8/open/400.jpg', 1, 1, 'done', 8, 'thumbnail', 30063, 'live', '2026-11-27 15:17:50.911682+00');
INSERT INTO public.stored_objects VALUES ('1/1/done/8/open/200.jpg', 1, 1, 'done', 8, 'thumbnail', 12501, 'live', '2026-11-27 15:17:50.911682+00');
INSERT INTO public.stored_objects VALUES ('1/1/done/8/open/100.jpg', 1, 1, 'done', 8, 'thumbnail', 5412, 'live', '2026-11-27 15:17:50.911682+00');
INSERT INTO public.stored_objects VALUES ('1/1/done/8/s.json', 1, 1, 'done', 8, 'sizes', 53, 'live', '2026-11-27 15:17:50.911682+00');
INSERT INTO public.stored_objects VALUES ('1/1/done/7/original', 1, 1, 'done', 7, 'original', 13225, 'unwanted', '2026-11-27 15:17:50.911682+00');
INSERT INTO public.stored_objects VALUES ('1/1/second/9/open/200.jpg', 1, 1, 'second', 9, 'thumbnail', 16976, 'live', '2026-11-27 15:17:52.876745+00');
INSERT INTO public.stored_objects VALUES ('1/1/second/9/open/100.jpg', 1, 1, 'second', 9, 'thumbnail', 5744, 'live', '2026-11-27 15:17:52.876745+00');
INSERT INTO public.stored_objects VALUES ('1/1/second/9/auth/700.jpg', 1, 1, 'second', 9, 'thumbnail', 60658, 'live', '2026-11-27 15:17:52.876745+00');
INSERT INTO public.stored_objects VALUES ('1/1/second/9/auth/400.jpg', 1, 1, 'second', 9, 'thumbnail', 37227, 'live', '2026-11-27 15:17:52.876745+00');
INSERT INTO public.stored_objects VALUES ('1/1/second/9/s.json', 1, 1, 'second', 9, 'sizes', 52, 'live', '2026-11-27 15:17:52.876745+00');
INSERT INTO public.stored_objects VALUES ('1/1/second/4/open/700.jpg', 1, 1, 'second', 4, 'thumbnail', 60658, 'unwanted', '2026-11-27 15:17:52.876745+00');
INSERT INTO public.stored_objects VALUES ('1/1/second/4/open/400.jpg', 1, 1, 'second', 4, 'thumbnail', 37227, 'unwanted', '2026-11-27 15:17:52.876745+00');
INSERT INTO public.stored_objects VALUES ('1/1/second/4/open/200.jpg', 1, 1, 'second', 4, 'thumbnail', 16976, 'unwanted', '2026-11-27 15:17:52.876745+00');
INSERT INTO public.stored_objects VALUES ('1/1/second/4/open/100.jpg', 1, 1, 'second', 4, 'thumbnail', 5744, 'unwanted', '2026-11-27 15:17:52.876745+00');
INSERT INTO public.stored_objects VALUES ('1/1/second/4/s.json', 1, 1, 'second', 4, 'sizes', 53, 'unwanted', '2026-11-27 15:17:52.876745+00');


--
-- Name: asset_changes_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.asset_changes_id_seq', 6, true);


--
-- Name: asset_versions; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.asset_versions', 18, true);


--
-- Name: batches_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.batches_id_seq', 2, true);


--
-- Name: ingest_attempts_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.ingest_attempts_id_seq', 1, true);


--
-- Name: jobs_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.jobs_id_seq', 5, true);


--
-- Name: pgqueuer_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.pgqueuer_id_seq', 5, true);


--
-- Name: pgqueuer_log_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.pgqueuer_log_id_seq', 9, true);


--
-- Name: pgqueuer_schedules_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.pgqueuer_schedules_id_seq', 1, false);


--
-- Name: pgqueuer_statistics_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.pgqueuer_statistics_id_seq', 1, false);


--
-- Name: aliases aliases_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.aliases
    ADD CONSTRAINT aliases_pkey PRIMARY KEY (alias);


--
-- Name: api_keys api_keys_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (id);


--
-- Name: asset_changes asset_changes_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.asset_changes
    ADD CONSTRAINT asset_changes_pkey PRIMARY KEY (id);


--
-- Name: assets assets_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.assets
    ADD CONSTRAINT assets_pkey PRIMARY KEY (customer, space, name);


--
-- Name: batches batches_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.batches
    ADD CONSTRAINT batches_pkey PRIMARY KEY (id);


--
-- Name: customer_storage customer_storage_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.customer_storage
    ADD CONSTRAINT customer_storage_pkey PRIMARY KEY (customer);


--
-- Name: customers customers_name_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.customers
    ADD CONSTRAINT customers_name_key UNIQUE (name);


--
-- Name: customers customers_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.customers
    ADD CONSTRAINT customers_pkey PRIMARY KEY (id);


--
-- Name: ingest_attempts ingest_attempts_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.ingest_attempts
    ADD CONSTRAINT ingest_attempts_pkey PRIMARY KEY (id);


--
-- Name: jobs jobs_dedupe_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_dedupe_key UNIQUE (dedupe);


--
-- Name: jobs jobs_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (id);


--
-- Name: migrations migrations_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (name);


--
-- Name: origin_strategies origin_strategies_customer_regex_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.origin_strategies
    ADD CONSTRAINT origin_strategies_customer_regex_key UNIQUE (customer, regex);


--
-- Name: origin_strategies origin_strategies_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.origin_strategies
    ADD CONSTRAINT origin_strategies_pkey PRIMARY KEY (id);


--
-- Name: pgqueuer_log pgqueuer_log_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pgqueuer_log
    ADD CONSTRAINT pgqueuer_log_pkey PRIMARY KEY (id);


--
-- Name: pgqueuer pgqueuer_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pgqueuer
    ADD CONSTRAINT pgqueuer_pkey PRIMARY KEY (id);


--
-- Name: pgqueuer_schedules pgqueuer_schedules_expression_entrypoint_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pgqueuer_schedules
    ADD CONSTRAINT pgqueuer_schedules_expression_entrypoint_key UNIQUE (expression, entrypoint);


--
-- Name: pgqueuer_schedules pgqueuer_schedules_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pgqueuer_schedules
    ADD CONSTRAINT pgqueuer_schedules_pkey PRIMARY KEY (id);


--
-- Name: pgqueuer_statistics pgqueuer_statistics_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pgqueuer_statistics
    ADD CONSTRAINT pgqueuer_statistics_pkey PRIMARY KEY (id);


--
-- Name: policies policies_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.policies
    ADD CONSTRAINT policies_pkey PRIMARY KEY (kind, customer, name);


--
-- Name: quota_reservations quota_reservations_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.quota_reservations
    ADD CONSTRAINT quota_reservations_pkey PRIMARY KEY (id);


--
-- Name: shared_files shared_files_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.shared_files
    ADD CONSTRAINT shared_files_pkey PRIMARY KEY (folder, asset, name);


--
-- Name: shared_folders shared_folders_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.shared_folders
    ADD CONSTRAINT shared_folders_pkey PRIMARY KEY (id);


--
-- Name: shared_holders shared_holders_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.shared_holders
    ADD CONSTRAINT shared_holders_pkey PRIMARY KEY (folder, holder);


--
-- Name: stored_objects stored_objects_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.stored_objects
    ADD CONSTRAINT stored_objects_pkey PRIMARY KEY (key);


--
-- Name: aliases_asset; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX aliases_asset ON public.aliases USING btree (customer, space, name);


--
-- Name: asset_changes_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX asset_changes_at ON public.asset_changes USING btree (at, id);


--
-- Name: assets_ingesting; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX assets_ingesting ON public.assets USING btree (declared) WHERE (state = 'ingesting'::text);


--
-- Name: assets_pending; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX assets_pending ON public.assets USING btree (updated) WHERE (state = ANY (ARRAY['registered'::text, 'ingesting'::text]));


--
-- Name: assets_pinned; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX assets_pinned ON public.assets USING btree (customer, space, name) WHERE pinned;


--
-- Name: batches_customer; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX batches_customer ON public.batches USING btree (customer, id);


--
-- Name: batches_finished; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX batches_finished ON public.batches USING btree (finished) WHERE (finished IS NOT NULL);


--
-- Name: ingest_attempts_asset; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ingest_attempts_asset ON public.ingest_attempts USING btree (customer, space, name, id);


--
-- Name: ingest_attempts_finished; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ingest_attempts_finished ON public.ingest_attempts USING btree (finished);


--
-- Name: jobs_asset; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX jobs_asset ON public.jobs USING btree (asset, id) WHERE (asset <> ''::text);


--
-- Name: jobs_batch; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX jobs_batch ON public.jobs USING btree (batch, id) WHERE (batch IS NOT NULL);


--
-- Name: jobs_ended; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX jobs_ended ON public.jobs USING btree (finished) WHERE (state = ANY (ARRAY['done'::text, 'failed'::text, 'cancelled'::text]));


--
-- Name: jobs_failed; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX jobs_failed ON public.jobs USING btree (id) WHERE (state = 'failed'::text);


--
-- Name: jobs_queued; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX jobs_queued ON public.jobs USING btree (lane, customer, due, id) WHERE (state = 'queued'::text);


--
-- Name: jobs_running; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX jobs_running ON public.jobs USING btree (heartbeat) WHERE (state = 'running'::text);


--
-- Name: jobs_unannounced; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX jobs_unannounced ON public.jobs USING btree (id) WHERE ((state = 'queued'::text) AND (announced IS NULL));


--
-- Name: pgqueuer_ep_ea_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX pgqueuer_ep_ea_idx ON public.pgqueuer USING btree (entrypoint, execute_after) WHERE (status = 'queued'::public.pgqueuer_status);


--
-- Name: pgqueuer_ep_prio_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX pgqueuer_ep_prio_id_idx ON public.pgqueuer USING btree (entrypoint, priority DESC, id) WHERE (status = 'queued'::public.pgqueuer_status);


--
-- Name: pgqueuer_log_created; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX pgqueuer_log_created ON public.pgqueuer_log USING btree (created);


--
-- Name: pgqueuer_log_job_id_status; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX pgqueuer_log_job_id_status ON public.pgqueuer_log USING btree (job_id, created DESC);


--
-- Name: pgqueuer_log_not_aggregated; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX pgqueuer_log_not_aggregated ON public.pgqueuer_log USING btree ((1)) WHERE (NOT aggregated);


--
-- Name: pgqueuer_log_status; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX pgqueuer_log_status ON public.pgqueuer_log USING btree (status);


--
-- Name: pgqueuer_picked_heartbeat_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX pgqueuer_picked_heartbeat_idx ON public.pgqueuer USING btree (heartbeat) WHERE (status = 'picked'::public.pgqueuer_status);


--
-- Name: pgqueuer_picked_slot_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX pgqueuer_picked_slot_idx ON public.pgqueuer USING btree (entrypoint, slot) WHERE ((status = 'picked'::public.pgqueuer_status) AND (slot IS NOT NULL));


--
-- Name: pgqueuer_priority_id_id1_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX pgqueuer_priority_id_id1_idx ON public.pgqueuer USING btree (priority, id DESC) INCLUDE (id) WHERE (status = 'queued'::public.pgqueuer_status);


--
-- Name: pgqueuer_queue_manager_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX pgqueuer_queue_manager_id_idx ON public.pgqueuer USING btree (queue_manager_id) WHERE (queue_manager_id IS NOT NULL);


--
-- Name: pgqueuer_statistics_unique_count; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX pgqueuer_statistics_unique_count ON public.pgqueuer_statistics USING btree (priority, date_trunc('sec'::text, timezone('UTC'::text, created)), status, entrypoint);


--
-- Name: pgqueuer_unique_dedupe_key; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX pgqueuer_unique_dedupe_key ON public.pgqueuer USING btree (dedupe_key) WHERE ((status = ANY (ARRAY['queued'::public.pgqueuer_status, 'picked'::public.pgqueuer_status])) AND (dedupe_key IS NOT NULL));


--
-- Name: pgqueuer_updated_id_id1_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX pgqueuer_updated_id_id1_idx ON public.pgqueuer USING btree (updated, id DESC) INCLUDE (id) WHERE (status = 'picked'::public.pgqueuer_status);


--
-- Name: quota_reservations_customer; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX quota_reservations_customer ON public.quota_reservations USING btree (customer);


--
-- Name: shared_files_by_use; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX shared_files_by_use ON public.shared_files USING btree (folder, last_used) WHERE (writer = ''::text);


--
-- Name: shared_files_doomed; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX shared_files_doomed ON public.shared_files USING btree (folder) WHERE doomed;


--
-- Name: shared_files_writing; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX shared_files_writing ON public.shared_files USING btree (folder) WHERE (writer <> ''::text);


--
-- Name: stored_objects_asset; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX stored_objects_asset ON public.stored_objects USING btree (customer, space, name);


--
-- Name: stored_objects_leftover; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX stored_objects_leftover ON public.stored_objects USING btree (since) WHERE (state <> 'live'::text);


--
-- Name: assets asset_changed; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER asset_changed AFTER UPDATE OF version ON public.assets FOR EACH ROW WHEN ((old.version IS DISTINCT FROM new.version)) EXECUTE FUNCTION public.keep_asset_change();


--
-- Name: assets asset_gone; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER asset_gone AFTER DELETE ON public.assets FOR EACH ROW EXECUTE FUNCTION public.keep_asset_change();


--
-- Name: pgqueuer tg_pgqueuer_changed; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER tg_pgqueuer_changed AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.pgqueuer FOR EACH STATEMENT EXECUTE FUNCTION public.fn_pgqueuer_changed();


--
-- Name: aliases aliases_customer_space_name_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.aliases
    ADD CONSTRAINT aliases_customer_space_name_fkey FOREIGN KEY (customer, space, name) REFERENCES public.assets(customer, space, name) ON UPDATE CASCADE ON DELETE CASCADE;


--
-- Name: api_keys api_keys_customer_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_customer_fkey FOREIGN KEY (customer) REFERENCES public.customers(id) ON DELETE CASCADE;


--
-- Name: batches batches_customer_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.batches
    ADD CONSTRAINT batches_customer_fkey FOREIGN KEY (customer) REFERENCES public.customers(id) ON DELETE CASCADE;


--
-- Name: jobs jobs_batch_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_batch_fkey FOREIGN KEY (batch) REFERENCES public.batches(id) ON DELETE CASCADE;


--
-- Name: origin_strategies origin_strategies_customer_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.origin_strategies
    ADD CONSTRAINT origin_strategies_customer_fkey FOREIGN KEY (customer) REFERENCES public.customers(id) ON DELETE CASCADE;


--
-- Name: shared_files shared_files_folder_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.shared_files
    ADD CONSTRAINT shared_files_folder_fkey FOREIGN KEY (folder) REFERENCES public.shared_folders(id) ON DELETE CASCADE;


--
-- Name: shared_holders shared_holders_folder_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.shared_holders
    ADD CONSTRAINT shared_holders_folder_fkey FOREIGN KEY (folder) REFERENCES public.shared_folders(id) ON DELETE CASCADE;


--
-- PostgreSQL database dump complete
--

\unrestrict HdBLKYKBPFneZ1Jfv4fFGVPkqgtUpB1869Xrju8QJW09gvspqgfHC5ZnmQxNZjB

