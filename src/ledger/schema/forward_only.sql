-- S4, Forward only: no row of the ledger moves back, whoever writes it. Idempotent: `ledger migrate` also repairs a
-- trigger that was switched off. Where logical replication applies a change, neither an ordinary trigger fires (hence ENABLE
-- ALWAYS) nor, for a DELETE, one of the whole statement (hence by row).

CREATE OR REPLACE FUNCTION blockhouse.refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'blockhouse never forgets: % of % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'check_violation';
END $$;

CREATE OR REPLACE FUNCTION blockhouse.sequence_forward_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.name <> OLD.name
        OR NEW.first <> OLD.first
        OR NEW.granted < OLD.granted
        OR NEW.grants < OLD.grants
        OR NEW.issued < OLD.issued
        OR NEW.slot < OLD.slot
        OR NEW.generation < OLD.generation
        OR (OLD.newest_last IS NOT NULL AND coalesce(NEW.newest_last < OLD.newest_last, true))
        OR (OLD.retired AND NOT NEW.retired)
    THEN
        RAISE EXCEPTION 'sequence % only moves forward: its counter stands at %', OLD.name, OLD.granted
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION blockhouse.ledger_forward_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.id <> OLD.id
        OR NEW.environment <> OLD.environment
        OR NEW.epoch < OLD.epoch
        OR (NEW.epoch = OLD.epoch AND NEW.token <> OLD.token)
        OR NEW.catalogue_version < OLD.catalogue_version
    THEN
        RAISE EXCEPTION 'the ledger only moves forward: it is in epoch %', OLD.epoch
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

-- Every change of a sequence's facts raises the catalogue's version, also one made by hand.
CREATE OR REPLACE FUNCTION blockhouse.catalogue_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE blockhouse.ledger SET catalogue_version = catalogue_version + 1;
    RETURN NULL;
END $$;

DO $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT * FROM (VALUES
        ('sequences', 'forward_only', 'BEFORE UPDATE', 'ROW', 'sequence_forward_only'),
        ('sequences', 'no_delete', 'BEFORE DELETE', 'ROW', 'refuse'),
        ('sequences', 'no_truncate', 'BEFORE TRUNCATE', 'STATEMENT', 'refuse'),
        ('sequences', 'created', 'AFTER INSERT', 'ROW', 'catalogue_changed'),
        ('ledger', 'forward_only', 'BEFORE UPDATE', 'ROW', 'ledger_forward_only'),
        ('ledger', 'no_delete', 'BEFORE DELETE', 'ROW', 'refuse'),
        ('ledger', 'no_truncate', 'BEFORE TRUNCATE', 'STATEMENT', 'refuse'),
        ('lives', 'no_change', 'BEFORE UPDATE OR DELETE', 'ROW', 'refuse'),
        ('lives', 'no_truncate', 'BEFORE TRUNCATE', 'STATEMENT', 'refuse'),
        ('grants', 'no_change', 'BEFORE UPDATE', 'ROW', 'refuse'),
        ('grants', 'no_truncate', 'BEFORE TRUNCATE', 'STATEMENT', 'refuse')
    ) AS v (on_table, name, event, each, calls) LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON blockhouse.%I', t.name, t.on_table);
        EXECUTE format('CREATE TRIGGER %I %s ON blockhouse.%I FOR EACH %s EXECUTE FUNCTION blockhouse.%I()',
            t.name, t.event, t.on_table, t.each, t.calls);
        EXECUTE format('ALTER TABLE blockhouse.%I ENABLE ALWAYS TRIGGER %I', t.on_table, t.name);
    END LOOP;
END $$;

DROP TRIGGER IF EXISTS changed ON blockhouse.sequences;
CREATE TRIGGER changed AFTER UPDATE ON blockhouse.sequences FOR EACH ROW
    WHEN ((OLD.generation, OLD.last, OLD.block_size, OLD.buffer_seconds, OLD.failover_gap, OLD.halted, OLD.retired)
        IS DISTINCT FROM
        (NEW.generation, NEW.last, NEW.block_size, NEW.buffer_seconds, NEW.failover_gap, NEW.halted, NEW.retired))
    EXECUTE FUNCTION blockhouse.catalogue_changed();
ALTER TABLE blockhouse.sequences ENABLE ALWAYS TRIGGER changed;
