-- The hourly cap. After `ledger set --on-failover jump` no more than a sequence's failover_gap is granted in any hour, by all
-- processes together: so a report of the last hour plus the gap lies above everything that was granted.
--
-- The hour is kept in slots of five minutes: `slot` is the newest, `issued` what grants have given out in all (moves of the
-- counter give out nothing), `starts` what that was when each of the last 13 slots began, the newest first. So what the 13
-- saw is one subtraction. 12 would fall short of an hour while the newest has only begun. A slot never moves back: where the
-- clock was set back, the newest goes on being filled, and nothing is free early.
--
-- Functions without a search_path of their own, so that the planner writes them out where they are called.

-- Since 1970. Nothing else of the cap reads a clock.
CREATE OR REPLACE FUNCTION blockhouse.present_slot() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) / 300)::bigint
$$;

-- What was granted in the 13 slots up to `present`.
CREATE OR REPLACE FUNCTION blockhouse.spent(issued bigint, slot bigint, starts bigint[], present bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT issued - coalesce(starts[13 - least(greatest(present - slot, 0), 13)::integer], issued)
$$;

-- `starts` once the newest slot is `present`.
CREATE OR REPLACE FUNCTION blockhouse.starts_at(issued bigint, slot bigint, starts bigint[], present bigint) RETURNS bigint[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN present <= slot THEN starts
                ELSE pg_catalog.array_fill(issued, ARRAY[least(present - slot, 13)::integer])
                     || starts[1 : 13 - least(present - slot, 13)::integer] END
$$;

-- What caps an hour, if anything does. A greater gap, none, or `wait` counts once every cluster knows of it: a failover could lose
-- the change before, with nobody to report it, and the new life would go by the cap that was `held`.
CREATE OR REPLACE FUNCTION blockhouse.cap(on_failover text, gap bigint, held bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT least(held, CASE WHEN on_failover = 'jump' AND gap > 0 THEN gap END)
$$;

-- What may be granted in `present`: of the cap, or of three quarters of it, so that hydrating leaves fallback something.
DROP FUNCTION IF EXISTS blockhouse.room(text, bigint, text, bigint, bigint, bigint[], bigint);
CREATE OR REPLACE FUNCTION blockhouse.room(
    cap bigint, purpose text, issued bigint, slot bigint, starts bigint[], present bigint)
RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN cap IS NULL THEN 9223372036854775807
                ELSE greatest(0, CASE purpose WHEN 'hydrate' THEN cap / 2 + cap / 4 ELSE cap END
                                 - blockhouse.spent(issued, slot, starts, present)) END
$$;

-- Seconds until `least_ids` may be granted, if nothing else is; at most until the whole hour is free.
DROP FUNCTION IF EXISTS blockhouse.seconds_to_room(blockhouse.sequences, text, bigint);
CREATE OR REPLACE FUNCTION blockhouse.seconds_to_room(
    s blockhouse.sequences, cap bigint, purpose text, least_ids bigint) RETURNS double precision
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present bigint := blockhouse.present_slot();
    newest  bigint := greatest(s.slot, present);
    free    bigint := newest + 1;
BEGIN
    WHILE free < newest + 13
        AND blockhouse.room(cap, purpose, s.issued, s.slot, s.starts, free) < least_ids
    LOOP
        free := free + 1;
    END LOOP;
    RETURN (free - present) * 300 - date_part('epoch', clock_timestamp())::bigint % 300;
END $$;

-- Lets held caps go, once every cluster that was led in the last hour has seen the present catalogue, with all its processes and pods.
CREATE OR REPLACE FUNCTION blockhouse.loosen() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Mostly nothing is held: that is seen without a lock.
    IF NOT EXISTS (SELECT FROM blockhouse.sequences WHERE held IS NOT NULL) THEN
        RETURN;
    END IF;
    UPDATE blockhouse.sequences AS s SET held = NULL
      FROM (SELECT epoch, catalogue_version FROM blockhouse.ledger FOR NO KEY UPDATE) AS l
     WHERE s.held IS NOT NULL AND NOT EXISTS (
               SELECT FROM blockhouse.clusters AS c LEFT JOIN blockhouse.seen AS w ON w.cluster = c.name
                WHERE c.renewed_at > clock_timestamp() - interval '1 hour'
                  AND (w.seen IS NULL OR w.seen = '[]' OR EXISTS (
                          SELECT FROM jsonb_to_recordset(w.seen::jsonb) AS who (stamp jsonb)
                           WHERE ((who.stamp ->> 'epoch')::bigint, (who.stamp ->> 'version')::bigint)
                                 < (l.epoch, l.catalogue_version))));
END $$;

-- Sets on_failover, unless the cap would be broken from the beginning: then it gives the sequences that were granted more than
-- their gap in the last hour, and changes nothing. Nor does a closed ledger begin to jump: what it has lost was not capped.
CREATE OR REPLACE FUNCTION blockhouse.set_on_failover(wish text)
RETURNS TABLE (sequence text, spent bigint, gap bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Grants hold a share of this row until they end, and new ones wait: what is read below is all there is.
    PERFORM FROM blockhouse.ledger FOR NO KEY UPDATE;
    IF wish = 'jump' THEN
        -- Also where the session's isolation is stricter: rows that changed since its snapshot are refused here.
        PERFORM FROM blockhouse.sequences ORDER BY name FOR SHARE;
        RETURN QUERY
        SELECT s.name, blockhouse.spent(s.issued, s.slot, s.starts, blockhouse.present_slot()), s.failover_gap
          FROM blockhouse.sequences AS s
         WHERE s.failover_gap > 0 AND NOT s.retired
           AND s.failover_gap < blockhouse.spent(s.issued, s.slot, s.starts, blockhouse.present_slot())
         ORDER BY s.name;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    UPDATE blockhouse.sequences AS s SET held = blockhouse.cap(l.on_failover, s.failover_gap, s.held)
      FROM blockhouse.ledger AS l WHERE l.on_failover <> wish AND (wish <> 'jump' OR l.state = 'open');
    UPDATE blockhouse.ledger AS l SET on_failover = wish, catalogue_version = l.catalogue_version + 1
     WHERE l.on_failover <> wish AND (wish <> 'jump' OR l.state = 'open');
    PERFORM blockhouse.loosen();
END $$;
