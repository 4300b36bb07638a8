-- A serving process needs no more than this. Where an operator has made the role `blockhouse_service` (and made the
-- service's login a member of it), `ledger migrate` grants it.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA blockhouse FROM PUBLIC;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'blockhouse_service') THEN
        GRANT USAGE ON SCHEMA blockhouse TO blockhouse_service;
        GRANT SELECT ON ALL TABLES IN SCHEMA blockhouse TO blockhouse_service;
        GRANT INSERT, UPDATE ON blockhouse.clusters TO blockhouse_service;
        GRANT INSERT, UPDATE, DELETE ON blockhouse.demand TO blockhouse_service;
        GRANT DELETE ON blockhouse.grants TO blockhouse_service;
        GRANT EXECUTE ON FUNCTION blockhouse.incarnation(), blockhouse.changed(), blockhouse.fence(bigint),
            blockhouse.difference(bigint, text, oid), blockhouse.close(bigint, uuid, bigint, text), blockhouse.halt(text, text),
            blockhouse.confirm(text, text, text),
            blockhouse.report(text, text, uuid, bigint, uuid, bigint, text, text[], bigint[], bigint[], bigint[], bigint[], bigint[],
                bigint[], bigint[]),
            blockhouse.grant_ids(text, bigint, bigint, uuid, bigint, bigint, bigint, bigint, text, text, text, text, boolean)
            TO blockhouse_service;
    END IF;
END $$;
