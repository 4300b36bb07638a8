-- Columns that a ledger lacks if its tables were made before them.

ALTER TABLE blockhouse.ledger
    ADD COLUMN IF NOT EXISTS on_failover text NOT NULL DEFAULT 'wait' CHECK (on_failover IN ('wait', 'jump'));

ALTER TABLE blockhouse.sequences
    ADD COLUMN IF NOT EXISTS issued bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS slot bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS starts bigint[] NOT NULL DEFAULT '{0,0,0,0,0,0,0,0,0,0,0,0,0}' CHECK (cardinality(starts) = 13);
