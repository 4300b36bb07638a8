-- Columns that a ledger lacks if its tables were made before them.

ALTER TABLE blockhouse.ledger
    ADD COLUMN IF NOT EXISTS on_failover text NOT NULL DEFAULT 'wait' CHECK (on_failover IN ('wait', 'jump'));

ALTER TABLE blockhouse.sequences
    ADD COLUMN IF NOT EXISTS issued bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS slot bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS held bigint,
    ADD COLUMN IF NOT EXISTS starts bigint[] NOT NULL DEFAULT '{0,0,0,0,0,0,0,0,0,0,0,0,0}' CHECK (cardinality(starts) = 13);

-- What the clusters report of the present closing.
ALTER TABLE blockhouse.ledger
    ADD COLUMN IF NOT EXISTS last_record timestamptz;          -- when the life that ended last recorded anything
ALTER TABLE blockhouse.clusters
    ADD COLUMN IF NOT EXISTS awaited boolean NOT NULL DEFAULT false,   -- whether its report is waited for
    ADD COLUMN IF NOT EXISTS answers uuid,                     -- the token of the closing that its report answers
    ADD COLUMN IF NOT EXISTS reporter text,
    ADD COLUMN IF NOT EXISTS known_epoch bigint,               -- the newest life that it knows
    ADD COLUMN IF NOT EXISTS read_at timestamptz,              -- when what it says was read, by the clock of the ledger it read
    ADD COLUMN IF NOT EXISTS known_on_failover text;           -- what it knows of ledger.on_failover
CREATE TABLE IF NOT EXISTS blockhouse.reports (
    cluster        text NOT NULL,
    sequence       text NOT NULL,
    answers        uuid NOT NULL,
    high_water     bigint NOT NULL,
    generation     bigint NOT NULL,
    first          bigint NOT NULL,
    last           bigint NOT NULL,
    block_size     bigint NOT NULL,
    buffer_seconds bigint,
    failover_gap   bigint NOT NULL,
    PRIMARY KEY (cluster, sequence)
);
ALTER TABLE blockhouse.reports
    ADD COLUMN IF NOT EXISTS uncapped boolean NOT NULL DEFAULT false;   -- somebody of the cluster knows of no gap
-- The lives that a cluster's processes follow, as its reports say.
CREATE TABLE IF NOT EXISTS blockhouse.followed (
    cluster text NOT NULL,
    answers uuid NOT NULL,
    epoch   bigint NOT NULL,
    token   uuid NOT NULL,
    PRIMARY KEY (cluster, answers, epoch, token)
);
-- Moves of counters that are no grants: IDs that nobody will get.
CREATE TABLE IF NOT EXISTS blockhouse.moves (
    epoch      bigint NOT NULL,                      -- the life that began with it
    sequence   text NOT NULL,
    moved_from bigint NOT NULL,
    moved_to   bigint NOT NULL,
    reason     text NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (epoch, sequence)
);

-- Two lines of history may count the same epoch.
DO $$
BEGIN
    IF (SELECT count(*) FROM information_schema.key_column_usage
         WHERE table_schema = 'blockhouse' AND constraint_name = 'lives_pkey') = 1 THEN
        ALTER TABLE blockhouse.lives DROP CONSTRAINT lives_pkey, ADD PRIMARY KEY (epoch, token);
    END IF;
END $$;
