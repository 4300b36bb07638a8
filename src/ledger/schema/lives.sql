-- S3, Fenced memory: does the ledger still run where it last ran? All of these can be called by an ordinary role.

-- What the ledger runs under now.
CREATE OR REPLACE FUNCTION blockhouse.incarnation(
    OUT system_identifier bigint, OUT timeline text, OUT started_at timestamptz, OUT table_oid oid)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    system_identifier := (SELECT c.system_identifier FROM pg_control_system() AS c);
    -- Where it writes, not what the last checkpoint says: a promotion comes with no checkpoint.
    timeline := left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
    started_at := pg_postmaster_start_time();
    -- Changes when a dump is restored over the table, not with VACUUM FULL.
    table_oid := to_regclass('blockhouse.sequences')::oid;
END $$;

-- Why an open ledger must close, for people; null if it need not. A changed start time alone is a plain restart.
CREATE OR REPLACE FUNCTION blockhouse.changed() RETURNS text
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT nullif(concat_ws('; ',
        CASE WHEN here.system_identifier IS DISTINCT FROM l.system_identifier THEN format(
            'another server answers: its system identifier is %s, the ledger last ran on %s',
            here.system_identifier, coalesce(l.system_identifier::text, 'an unknown one')) END,
        CASE WHEN here.timeline IS DISTINCT FROM l.timeline THEN format(
            'the server was promoted or restored to a point in time: its timeline is %s, the ledger last ran on %s',
            here.timeline, coalesce(l.timeline, 'an unknown one')) END,
        CASE WHEN here.table_oid IS DISTINCT FROM l.table_oid THEN format(
            'the table of sequences was made anew, as by restoring a dump: it is %s, the ledger last ran on %s',
            here.table_oid, coalesce(l.table_oid::text, 'an unknown one')) END), '')
    FROM blockhouse.ledger AS l, blockhouse.incarnation() AS here
    WHERE l.state = 'open'
$$;

-- Closes the ledger if it runs elsewhere than it last did: compare-and-set, so of many who see it one closes. The
-- new epoch lies above every one that the closer knows, which after a restore may be above the ledger's own.
CREATE OR REPLACE FUNCTION blockhouse.fence(known_epoch bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    why  text := blockhouse.changed();
    seen record;
BEGIN
    IF why IS NULL THEN
        RETURN;
    END IF;
    SELECT l.epoch, l.token INTO seen FROM blockhouse.ledger AS l;
    WITH closed AS (
        UPDATE blockhouse.ledger AS l
           SET state = 'closed', reason = why,
               epoch = greatest(l.epoch, known_epoch) + 1, token = gen_random_uuid()
         WHERE l.state = 'open' AND l.epoch = seen.epoch AND l.token = seen.token
        RETURNING l.epoch, l.token, l.reason
    )
    INSERT INTO blockhouse.lives (epoch, token, reason) SELECT * FROM closed;
END $$;
