-- Schema version 1. Run once, by `ledger migrate`, which then writes the one row of `ledger`.

CREATE SCHEMA IF NOT EXISTS blockhouse;

-- Which ledger this is, and in which life (S3, S5). One row.
CREATE TABLE blockhouse.ledger (
    singleton         boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    id                uuid NOT NULL,
    environment       text NOT NULL,
    schema_version    integer NOT NULL,
    readable_from     integer NOT NULL,              -- the oldest release's schema that can still use this one
    catalogue_version bigint NOT NULL,               -- rises with every change of a sequence's facts, not with grants
    epoch             bigint NOT NULL CHECK (epoch >= 1),
    token             uuid NOT NULL,
    state             text NOT NULL CHECK (state IN ('open', 'closed')),
    reason            text,                          -- why it is closed
    on_failover       text NOT NULL DEFAULT 'wait' CHECK (on_failover IN ('wait', 'jump')),
    system_identifier bigint,                        -- from here on: what it last ran under; null where the engine
    timeline          text,                          -- doesn't say
    started_at        timestamptz,
    table_oid         oid,
    CHECK ((state = 'closed') = (reason IS NOT NULL))
);

-- Every life that led here, the present one included.
CREATE TABLE blockhouse.lives (
    epoch  bigint PRIMARY KEY,
    token  uuid NOT NULL,
    reason text NOT NULL,
    at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row a sequence: its facts, then its counter.
CREATE TABLE blockhouse.sequences (
    name           text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_.-]{0,62}$'),
    generation     bigint NOT NULL DEFAULT 1 CHECK (generation >= 1),
    first          bigint NOT NULL CHECK (first >= 1),
    last           bigint NOT NULL CHECK (last >= first),
    block_size     bigint NOT NULL CHECK (block_size >= 1),
    buffer_seconds bigint CHECK (buffer_seconds >= 0),
    failover_gap   bigint NOT NULL CHECK (failover_gap >= 0),
    halted         text,
    retired        boolean NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    granted        bigint NOT NULL,                  -- the last granted ID: the next one may not fit a bigint
    grants         bigint NOT NULL DEFAULT 0,        -- how many; the number of the newest
    newest_first   bigint,                           -- the newest recorded grant, beside the counter so that
    newest_last    bigint,                           -- the grant sees both under one row lock
    issued         bigint NOT NULL DEFAULT 0,        -- from here on: the last hour, as cap.sql keeps it
    slot           bigint NOT NULL DEFAULT 0,
    held           bigint,                           -- a cap that stays until every cluster knows of a looser one
    starts         bigint[] NOT NULL DEFAULT '{0,0,0,0,0,0,0,0,0,0,0,0,0}' CHECK (cardinality(starts) = 13),
    CHECK (granted BETWEEN first - 1 AND last)
);

CREATE TABLE blockhouse.grants (
    sequence   text NOT NULL,
    number     bigint NOT NULL,
    epoch      bigint NOT NULL,
    generation bigint NOT NULL,
    first      bigint NOT NULL,
    count      bigint NOT NULL CHECK (count >= 1),
    purpose    text NOT NULL,
    holder     text NOT NULL,
    cluster    text NOT NULL,
    pod        text,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (sequence, number)
);

-- For `lookup`; and no two grants ever begin at one ID, whatever else goes wrong.
CREATE UNIQUE INDEX grants_by_first ON blockhouse.grants (sequence, first);
-- For pruning.
CREATE INDEX grants_by_time ON blockhouse.grants (at);

CREATE TABLE blockhouse.clusters (
    name       text PRIMARY KEY,
    leader     text NOT NULL,                        -- who leads, or led last
    renewed_at timestamptz NOT NULL,
    lease_ends timestamptz NOT NULL
);

-- IDs used, by hour since 1970 of the ledger's clock.
CREATE TABLE blockhouse.demand (
    cluster  text NOT NULL,
    sequence text NOT NULL,
    hour     bigint NOT NULL,
    ids      bigint NOT NULL,
    PRIMARY KEY (cluster, sequence, hour)
);
