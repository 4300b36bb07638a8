-- S1, Birth: the only code that raises a counter.
--
-- A function rather than the bare statement, for three reasons: the service's role needs no right to write the tables
-- (SECURITY DEFINER); a refusal can be explained in the same round trip; and synchronous_commit is raised before the transaction writes.
-- It is still one statement for the client: one round trip, one transaction, no session state.

-- How much to grant of what is left: what is welcome, but no more than 1/64 of it, unless more is needed.
CREATE OR REPLACE FUNCTION blockhouse.grant_size(remaining bigint, need bigint, want bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT least(remaining, greatest(need, least(want, remaining / 64)))
$$;

-- Why a grant raised nothing: what stands there now, read after the attempt.
DROP FUNCTION IF EXISTS blockhouse.refusal(text, bigint, bigint, uuid, bigint, bigint);
CREATE OR REPLACE FUNCTION blockhouse.refusal(
    asked_sequence text, asked_generation bigint, asked_epoch bigint, asked_token uuid, least_ids bigint, known bigint,
    asked_purpose text, OUT outcome text, OUT detail text, OUT standing bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    l record;
    s blockhouse.sequences;
    cap bigint;
    room bigint;
BEGIN
    SELECT * INTO l FROM blockhouse.ledger;
    IF l.state = 'closed' THEN
        outcome := 'closed'; detail := l.reason; RETURN;
    ELSIF l.epoch IS DISTINCT FROM asked_epoch OR l.token IS DISTINCT FROM asked_token THEN
        outcome := 'stale'; detail := format('it is in epoch %s, the request knows epoch %s', l.epoch, asked_epoch); RETURN;
    END IF;
    SELECT * INTO s FROM blockhouse.sequences WHERE name = asked_sequence;
    standing := s.granted;
    IF s.name IS NULL THEN
        outcome := 'unknown';
    ELSIF s.retired THEN
        outcome := 'retired';
    ELSIF s.granted < greatest(known, s.newest_last) THEN
        outcome := 'went_back'; detail := greatest(known, s.newest_last)::text;
    ELSIF s.generation <> asked_generation THEN
        outcome := 'stale';
        detail := format('sequence %s is in generation %s, the request knows %s', s.name, s.generation, asked_generation);
    ELSIF s.halted IS NOT NULL THEN
        outcome := 'halted'; detail := s.halted;
    ELSIF s.last - s.granted < least_ids THEN
        outcome := 'exhausted'; standing := s.last - s.granted;
    ELSE
        cap := blockhouse.cap(l.on_failover, s.failover_gap, s.held);
        room := blockhouse.room(cap, asked_purpose, s.issued, s.slot, s.starts, blockhouse.present_slot());
        IF room < least_ids THEN
            outcome := 'rate_capped'; standing := room;
            detail := blockhouse.seconds_to_room(s, cap, asked_purpose, least_ids)::text;
        ELSE
            outcome := 'conflict'; detail := 'the sequence changed while it was asked';
        END IF;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION blockhouse.grant_ids(
    asked_sequence text, asked_generation bigint, asked_epoch bigint, asked_token uuid,
    least_ids bigint, need_ids bigint, want_ids bigint, known bigint,
    asked_purpose text, asked_holder text, asked_cluster text, asked_pod text, fenced boolean)
RETURNS TABLE (outcome text, detail text, standing bigint, granted_first bigint, granted_count bigint, granted_number bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    here record;
    present bigint;
BEGIN
    -- A commit that a crash can take back would be granted again. Until the transaction ends, also behind a pooler.
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;

    IF fenced THEN
        -- Before any lock: those who must close the ledger would else wait for each other's share of its row.
        PERFORM blockhouse.fence(asked_epoch);
        -- Neither changes within a transaction that writes: a server leaves recovery once, and a transaction
        -- begun in recovery stays read-only.
        SELECT i.system_identifier, i.timeline, i.started_at INTO here FROM blockhouse.incarnation() AS i;
    ELSE
        SELECT NULL::bigint AS system_identifier, NULL::text AS timeline, NULL::timestamptz AS started_at INTO here;
    END IF;

    -- Whatever must hold when the grant commits stands in this WHERE, on the sequence's own row or on the ledger's row under
    -- FOR SHARE: both are evaluated again after a lock wait. A plain sub-select would not be. The range comes from
    -- RETURNING: a counter read on the side is another grant's. The table's OID is looked up by name, under the lock
    -- that this UPDATE has on the table: after a wait, beside a row trigger, s.tableoid reads as 0 (PostgreSQL 15).
    LOOP
        present := blockhouse.present_slot();
        RETURN QUERY
        WITH raised AS (
            UPDATE blockhouse.sequences AS s
               SET granted = s.granted + least(blockhouse.grant_size(s.last - s.granted, need_ids, want_ids),
                       blockhouse.room(blockhouse.cap(l.on_failover, s.failover_gap, s.held), asked_purpose, s.issued, s.slot, s.starts, present)),
                   newest_first = s.granted + 1,
                   newest_last = s.granted + least(blockhouse.grant_size(s.last - s.granted, need_ids, want_ids),
                       blockhouse.room(blockhouse.cap(l.on_failover, s.failover_gap, s.held), asked_purpose, s.issued, s.slot, s.starts, present)),
                   grants = s.grants + 1,
                   issued = s.issued + least(blockhouse.grant_size(s.last - s.granted, need_ids, want_ids),
                       blockhouse.room(blockhouse.cap(l.on_failover, s.failover_gap, s.held), asked_purpose, s.issued, s.slot, s.starts, present)),
                   slot = greatest(s.slot, present),
                   starts = blockhouse.starts_at(s.issued, s.slot, s.starts, present)
              FROM (SELECT * FROM blockhouse.ledger FOR SHARE) AS l
             WHERE s.name = asked_sequence
               AND l.state = 'open' AND l.epoch = asked_epoch AND l.token = asked_token
               AND (NOT fenced OR (l.system_identifier = here.system_identifier
                                   AND l.timeline = here.timeline
                                   AND l.started_at = here.started_at
                                   AND l.table_oid = to_regclass('blockhouse.sequences')::oid))
               AND s.generation = asked_generation
               AND s.halted IS NULL
               AND NOT s.retired
               AND s.granted >= known
               AND s.granted >= coalesce(s.newest_last, s.granted)
               AND s.last - s.granted >= least_ids
               AND least_ids BETWEEN 1 AND need_ids
               AND least_ids <=
                   blockhouse.room(blockhouse.cap(l.on_failover, s.failover_gap, s.held), asked_purpose, s.issued, s.slot, s.starts, present)
               AND blockhouse.present_slot() <= present
            RETURNING s.name, s.grants, s.generation, s.newest_first, s.newest_last, s.last
        ), recorded AS (
            INSERT INTO blockhouse.grants (sequence, number, epoch, generation, first, count, purpose, holder, cluster, pod)
            SELECT r.name, r.grants, asked_epoch, r.generation, r.newest_first, r.newest_last - r.newest_first + 1,
                   asked_purpose, asked_holder, asked_cluster, asked_pod
              FROM raised AS r
            RETURNING number, first, count
        )
        SELECT 'granted', NULL::text, r.last - r.newest_last, g.first, g.count, g.number
          FROM recorded AS g, raised AS r;
        -- The slot ended while the row was waited for: what is granted now belongs into the next.
        EXIT WHEN FOUND OR blockhouse.present_slot() <= present;
    END LOOP;

    IF NOT FOUND THEN
        RETURN QUERY
        SELECT r.outcome, r.detail, r.standing, NULL::bigint, NULL::bigint, NULL::bigint
          FROM blockhouse.refusal(asked_sequence, asked_generation, asked_epoch, asked_token, least_ids, known, asked_purpose) AS r;
    END IF;
END $$;

-- Stops tier 3 of a sequence; the first reason stays. False if there is no such sequence. Everyone who locks both rows
-- locks the ledger's first, as the grant does.
CREATE OR REPLACE FUNCTION blockhouse.halt(asked_sequence text, why text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH l AS (SELECT FROM blockhouse.ledger FOR NO KEY UPDATE)
    UPDATE blockhouse.sequences AS s SET halted = why FROM l WHERE s.name = asked_sequence AND s.halted IS NULL;
    SELECT EXISTS (SELECT FROM blockhouse.sequences WHERE name = asked_sequence)
$$;
