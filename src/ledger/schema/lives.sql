-- S3, Fenced memory: does the ledger still run where it last ran, and if not, how does it go on? Closing, reporting and
-- opening are one statement each, with one winner. An ordinary role can call all of these.

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

-- The same, or nulls where the engine has no such functions (`ledger.incarnation = none`).
CREATE OR REPLACE FUNCTION blockhouse.incarnation_if_any(
    OUT system_identifier bigint, OUT timeline text, OUT started_at timestamptz, OUT table_oid oid)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT i.* INTO system_identifier, timeline, started_at, table_oid FROM blockhouse.incarnation() AS i;
EXCEPTION WHEN undefined_function OR undefined_table OR feature_not_supported THEN
    NULL;
END $$;

-- What differs here from where the ledger last ran, for people; null if nothing does.
DROP FUNCTION IF EXISTS blockhouse.difference();
CREATE OR REPLACE FUNCTION blockhouse.difference(system_identifier bigint, timeline text, table_oid oid) RETURNS text
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT nullif(concat_ws('; ',
        CASE WHEN $1 IS DISTINCT FROM l.system_identifier THEN format(
            'another server answers: its system identifier is %s, the ledger last ran on %s',
            $1, coalesce(l.system_identifier::text, 'an unknown one')) END,
        CASE WHEN $2 IS DISTINCT FROM l.timeline THEN format(
            'the server was promoted or restored to a point in time: its timeline is %s, the ledger last ran on %s',
            $2, coalesce(l.timeline, 'an unknown one')) END,
        CASE WHEN $3 IS DISTINCT FROM l.table_oid THEN format(
            'the table of sequences was made anew, as by restoring a dump: it is %s, the ledger last ran on %s',
            $3, coalesce(l.table_oid::text, 'an unknown one')) END), '')
    FROM blockhouse.ledger AS l
$$;

-- Why an open ledger must close, for people; null if it need not. A server that was restarted may have come back without what it
-- last committed, from older files under the same timeline: that is asked, and mostly answered within a moment.
CREATE OR REPLACE FUNCTION blockhouse.changed() RETURNS text
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(blockhouse.difference(here.system_identifier, here.timeline, here.table_oid),
                    CASE WHEN here.started_at IS DISTINCT FROM l.started_at THEN format(
                        'the server was restarted at %s', date_trunc('second', here.started_at)) END)
    FROM blockhouse.ledger AS l, blockhouse.incarnation() AS here
    WHERE l.state = 'open'
$$;

-- Closes the ledger: compare-and-set, so of many who see a reason one closes. The new epoch lies above every one that the
-- closer knows, which after a restore may be above the ledger's own. Whoever led a cluster in the last hour that the ledger
-- recorded is waited for.
CREATE OR REPLACE FUNCTION blockhouse.close(seen_epoch bigint, seen_token uuid, known_epoch bigint, why text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH record AS (
        SELECT greatest((SELECT max(at) FROM blockhouse.grants), (SELECT max(renewed_at) FROM blockhouse.clusters)) AS newest
    ), closed AS (
        UPDATE blockhouse.ledger AS l
           SET state = 'closed', reason = why, epoch = greatest(l.epoch, known_epoch) + 1, token = gen_random_uuid(),
               last_record = record.newest
          FROM record
         WHERE l.state = 'open' AND l.epoch = seen_epoch AND l.token = seen_token
        RETURNING l.epoch, l.token, l.reason, l.last_record
    ), life AS (
        INSERT INTO blockhouse.lives (epoch, token, reason) SELECT epoch, token, reason FROM closed RETURNING 1
    ), waits AS (
        UPDATE blockhouse.clusters AS c SET awaited = c.renewed_at > closed.last_record - interval '1 hour'
          FROM closed RETURNING 1
    )
    SELECT EXISTS (SELECT FROM life)
$$;

-- Closes the ledger if it runs elsewhere than it last did.
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
    PERFORM blockhouse.close(seen.epoch, seen.token, known_epoch, why);
END $$;

-- The clusters that are waited for and haven't reported, but for those that somebody does without.
CREATE OR REPLACE FUNCTION blockhouse.missing(without text[]) RETURNS text[]
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(c.name ORDER BY c.name)
      FROM blockhouse.clusters AS c, blockhouse.ledger AS l
     WHERE c.awaited AND c.answers IS DISTINCT FROM l.token AND c.name <> ALL (without)
$$;

-- What is known of each sequence, by the ledger and by every report that answers the present closing. Of gaps the greatest; and whether
-- somebody knows that it has none, which is to say that nothing capped it.
DROP FUNCTION IF EXISTS blockhouse.known();
CREATE FUNCTION blockhouse.known()
RETURNS TABLE (sequence text, here boolean, granted bigint, reported bigint, generation bigint, first bigint, last bigint,
    block_size bigint, buffer_seconds bigint, failover_gap bigint, capped boolean, retired boolean)
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    WITH told AS (
        SELECT r.sequence, max(r.high_water) AS high_water, max(r.generation) AS generation, max(r.failover_gap) AS failover_gap,
               bool_or(r.uncapped) AS uncapped,
               min(r.first) AS first, max(r.last) AS last, max(r.block_size) AS block_size, max(r.buffer_seconds) AS buffer_seconds
          FROM blockhouse.reports AS r JOIN blockhouse.ledger AS l ON r.answers = l.token
         GROUP BY r.sequence
    )
    SELECT coalesce(s.name, t.sequence), s.name IS NOT NULL, coalesce(s.granted, t.first - 1), t.high_water,
           greatest(s.generation, t.generation), coalesce(s.first, t.first), coalesce(s.last, t.last),
           coalesce(s.block_size, t.block_size), CASE WHEN s.name IS NULL THEN t.buffer_seconds ELSE s.buffer_seconds END,
           greatest(s.failover_gap, t.failover_gap), coalesce(s.failover_gap > 0, true) AND NOT coalesce(t.uncapped, false), coalesce(s.retired, false)
      FROM blockhouse.sequences AS s FULL JOIN told AS t ON t.sequence = s.name
$$;

-- Where each sequence goes on after a failover: above its counter, every report and its floor, by its gap.
CREATE OR REPLACE FUNCTION blockhouse.targets(floor_names text[], floors bigint[])
RETURNS TABLE (sequence text, stands bigint, reported bigint, target bigint)
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.sequence, k.granted, k.reported,
           least(k.last, greatest(k.granted, k.reported, f.floor)::numeric + k.failover_gap)::bigint
      FROM blockhouse.known() AS k LEFT JOIN unnest(floor_names, floors) AS f (name, floor) ON f.name = k.sequence
     ORDER BY k.sequence
$$;

-- Moves every counter to where `targets` says, brings back sequences that the ledger lost, and opens it where it runs now. The caller
-- holds the ledger's row.
CREATE OR REPLACE FUNCTION blockhouse.open_at(names text[], targets bigint[], why text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    begun   record;
    closing uuid := (SELECT token FROM blockhouse.ledger);
BEGIN
    INSERT INTO blockhouse.sequences (name, generation, first, last, block_size, buffer_seconds, failover_gap, granted)
    SELECT k.sequence, k.generation, k.first, k.last, k.block_size, k.buffer_seconds, k.failover_gap, k.first - 1
      FROM blockhouse.known() AS k WHERE NOT k.here;
    UPDATE blockhouse.sequences AS s SET generation = k.generation
      FROM blockhouse.known() AS k WHERE k.sequence = s.name AND k.generation > s.generation;
    -- Who follows another line comes along: that life led here by an operator's word, and the one that begins lies above it.
    UPDATE blockhouse.ledger AS o SET epoch = t.epoch + 1, token = gen_random_uuid()
      FROM (SELECT max(f.epoch) AS epoch FROM blockhouse.followed AS f
             WHERE f.answers = closing AND NOT EXISTS (
                       SELECT FROM blockhouse.lives AS v WHERE v.epoch = f.epoch AND v.token = f.token)) AS t
     WHERE t.epoch >= o.epoch;
    INSERT INTO blockhouse.lives (epoch, token, reason)
    SELECT DISTINCT f.epoch, f.token, 'followed by clusters when ' || why
      FROM blockhouse.followed AS f WHERE f.answers = closing
    UNION SELECT l.epoch, l.token, why FROM blockhouse.ledger AS l
    ON CONFLICT DO NOTHING;
    SELECT * INTO begun FROM blockhouse.ledger;
    INSERT INTO blockhouse.moves (epoch, sequence, moved_from, moved_to, reason)
    SELECT begun.epoch, s.name, s.granted, t.target, why
      FROM unnest(names, targets) AS t (name, target) JOIN blockhouse.sequences AS s ON s.name = t.name
     WHERE t.target > s.granted;
    UPDATE blockhouse.sequences AS s SET granted = t.target
      FROM unnest(names, targets) AS t (name, target)
     WHERE s.name = t.name AND t.target > s.granted;
    UPDATE blockhouse.clusters SET awaited = false WHERE awaited;
    UPDATE blockhouse.ledger AS o
       SET state = 'open', reason = NULL, catalogue_version = o.catalogue_version + 1,
           system_identifier = i.system_identifier, timeline = i.timeline, started_at = i.started_at, table_oid = i.table_oid
      FROM blockhouse.incarnation_if_any() AS i;
END $$;

-- Opens a closed ledger if that is provably safe: it was only restarted, whoever is waited for has reported, and nobody knows of more
-- than it does. Counters move by what may have been lost all the same: what was granted in the last recorded hour if somebody read it
-- within its last minute, else in the last recorded day. Gives what became of it: 'open', or 'waits' and for what.
CREATE OR REPLACE FUNCTION blockhouse.open_if_safe(OUT outcome text, OUT detail text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    l      record;
    absent text[];
    other  text;
    above  text;
    stale  text;
    newest timestamptz;
    lost   interval;
BEGIN
    SELECT * INTO l FROM blockhouse.ledger FOR NO KEY UPDATE;
    IF l.state = 'open' THEN
        outcome := 'open'; RETURN;
    END IF;
    outcome := 'waits';
    absent := blockhouse.missing('{}');
    SELECT string_agg(format('cluster %s follows life %s, which did not lead here', f.cluster, f.epoch), '; ') INTO other
      FROM blockhouse.followed AS f
     WHERE f.answers = l.token
       AND NOT EXISTS (SELECT FROM blockhouse.lives AS v WHERE v.epoch = f.epoch AND v.token = f.token);
    SELECT string_agg(format('%s of sequence %s is known, its counter stands at %s', k.reported, k.sequence, k.granted), '; ')
      INTO above FROM blockhouse.known() AS k WHERE k.reported > k.granted OR NOT k.here;
    IF absent IS NOT NULL THEN
        detail := format('waits for the report of cluster %s', array_to_string(absent, ', ')); RETURN;
    ELSIF other IS NOT NULL OR above IS NOT NULL OR EXISTS (
        SELECT FROM blockhouse.incarnation_if_any() AS i
         WHERE blockhouse.difference(i.system_identifier, i.timeline, i.table_oid) IS NOT NULL)
    THEN
        -- What nobody reports was granted after a report was read: no more than the gap, where the report is of the last hour. A clock that
        -- was set back makes none younger than the newest time that anybody saw.
        newest := greatest(clock_timestamp(), l.last_record,
                           (SELECT max(c.read_at) FROM blockhouse.clusters AS c WHERE c.answers = l.token));
        SELECT string_agg(why, '; ') INTO stale FROM (
            SELECT 'it waits (on_failover)' AS why WHERE l.on_failover <> 'jump'
            UNION ALL
            SELECT format('the report of cluster %s is over an hour old', c.name) FROM blockhouse.clusters AS c
             WHERE c.answers = l.token AND coalesce(c.read_at < newest - interval '1 hour', true)
            UNION ALL
            SELECT format('cluster %s knows a ledger that waits', c.name) FROM blockhouse.clusters AS c
             WHERE c.answers = l.token AND c.known_on_failover = 'wait'
            UNION ALL
            SELECT 'nobody has reported' WHERE NOT EXISTS (SELECT FROM blockhouse.clusters AS c WHERE c.answers = l.token)
            UNION ALL
            SELECT format('sequence %s has no failover_gap', k.sequence) FROM blockhouse.known() AS k
             WHERE NOT k.retired AND NOT k.capped
        ) AS reasons (why);
        IF other IS NOT NULL OR stale IS NOT NULL THEN
            detail := concat_ws('; ', other, above, stale, 'an operator decides: `blockhouse ledger accept-failover`'); RETURN;
        END IF;
        PERFORM blockhouse.open_at(array_agg(t.sequence), array_agg(t.target), 'jumped') FROM blockhouse.targets('{}', '{}') AS t;
        outcome := 'open'; RETURN;
    END IF;
    lost := CASE WHEN (SELECT max(c.read_at) FROM blockhouse.clusters AS c WHERE c.answers = l.token)
                      >= l.last_record - interval '1 minute' THEN interval '1 hour' ELSE interval '1 day' END;
    PERFORM blockhouse.open_at(array_agg(k.sequence), array_agg(least(k.last, k.granted::numeric + coalesce(g.ids, 0))::bigint),
                               'restarted')
       FROM blockhouse.known() AS k LEFT JOIN (
                SELECT r.sequence, sum(r.count) AS ids FROM blockhouse.grants AS r
                 WHERE r.at > l.last_record - lost GROUP BY r.sequence) AS g USING (sequence);
    outcome := 'open';
END $$;

-- A process's word on the present closing, then a try to open. The cluster has answered once its leader has, or anybody where nobody
-- leads; what was said stays, and only grows.
DROP FUNCTION IF EXISTS blockhouse.report(text, text, uuid, bigint, uuid, bigint, text[], bigint[], bigint[], bigint[], bigint[],
    bigint[], bigint[], bigint[]);
CREATE OR REPLACE FUNCTION blockhouse.report(
    of_cluster text, by_holder text, closed_token uuid, life_epoch bigint, life_token uuid, was_read_us bigint,
    told_on_failover text,
    names text[], high_waters bigint[], generations bigint[], firsts bigint[], lasts bigint[], block_sizes bigint[],
    buffers bigint[], gaps bigint[],
    OUT outcome text, OUT detail text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    l        record;
    read_now timestamptz := to_timestamp(was_read_us / 1000000.0);
BEGIN
    SELECT * INTO l FROM blockhouse.ledger FOR NO KEY UPDATE;
    IF l.state = 'open' THEN
        outcome := 'open'; RETURN;
    ELSIF l.token IS DISTINCT FROM closed_token THEN
        outcome := 'stale'; detail := 'it was closed anew meanwhile'; RETURN;
    END IF;
    INSERT INTO blockhouse.clusters AS c (name, leader, renewed_at, lease_ends) VALUES (of_cluster, '', 'epoch', 'epoch')
        ON CONFLICT (name) DO NOTHING;
    UPDATE blockhouse.clusters AS c
       SET answers = l.token, reporter = by_holder,
           known_epoch = CASE WHEN c.answers = l.token THEN greatest(c.known_epoch, life_epoch) ELSE life_epoch END,
           read_at = CASE WHEN c.answers = l.token THEN greatest(c.read_at, read_now) ELSE read_now END,
           known_on_failover = CASE WHEN c.answers IS DISTINCT FROM l.token THEN told_on_failover
                                    WHEN c.known_on_failover = 'wait' THEN 'wait'
                                    ELSE coalesce(told_on_failover, c.known_on_failover) END
     WHERE c.name = of_cluster AND (c.leader = by_holder OR c.lease_ends <= clock_timestamp());
    -- Whoever else of the cluster knows something is heard too, but waited for is only that word.
    DELETE FROM blockhouse.followed WHERE cluster = of_cluster AND answers <> l.token;
    INSERT INTO blockhouse.followed (cluster, answers, epoch, token)
    SELECT of_cluster, l.token, life_epoch, life_token WHERE life_epoch IS NOT NULL
    ON CONFLICT DO NOTHING;
    INSERT INTO blockhouse.reports AS r
        (cluster, sequence, answers, high_water, generation, first, last, block_size, buffer_seconds, failover_gap, uncapped)
    SELECT of_cluster, t.name, l.token, t.high_water, t.generation, t.first, t.last, t.block_size, t.buffer, t.gap, t.gap = 0
      FROM unnest(names, high_waters, generations, firsts, lasts, block_sizes, buffers, gaps)
           AS t (name, high_water, generation, first, last, block_size, buffer, gap)
    ON CONFLICT (cluster, sequence) DO UPDATE
       SET answers = excluded.answers,
           high_water = CASE WHEN r.answers = excluded.answers THEN greatest(r.high_water, excluded.high_water) ELSE excluded.high_water END,
           generation = CASE WHEN r.answers = excluded.answers THEN greatest(r.generation, excluded.generation) ELSE excluded.generation END,
           failover_gap = CASE WHEN r.answers = excluded.answers THEN greatest(r.failover_gap, excluded.failover_gap) ELSE excluded.failover_gap END,
           uncapped = excluded.uncapped OR (r.answers = excluded.answers AND r.uncapped),
           first = excluded.first, last = excluded.last, block_size = excluded.block_size, buffer_seconds = excluded.buffer_seconds;
    SELECT o.outcome, o.detail INTO outcome, detail FROM blockhouse.open_if_safe() AS o;
END $$;

-- An operator takes the ledger as it is now for the one to go on with. `without` names clusters that nobody waits for; floors say for
-- a sequence below what it must not go on. Gives every sequence with where it goes on; `problem` says what must be said first, and then
-- nothing is changed. With `dry`, nothing is changed in any case.
CREATE OR REPLACE FUNCTION blockhouse.accept(without text[], floor_names text[], floors bigint[], dry boolean)
RETURNS TABLE (problem text, sequence text, stands bigint, reported bigint, moves_to bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    l       record;
    absent  text[];
    unknown text;
BEGIN
    SELECT * INTO l FROM blockhouse.ledger FOR NO KEY UPDATE;
    IF l.state = 'open' THEN
        RETURN QUERY SELECT 'the ledger is open: there is nothing to accept', NULL::text, NULL::bigint, NULL::bigint, NULL::bigint; RETURN;
    END IF;
    absent := blockhouse.missing(without);
    SELECT string_agg(k.sequence, ', ' ORDER BY k.sequence) INTO unknown FROM blockhouse.known() AS k
     WHERE k.reported IS NULL AND NOT k.retired AND k.sequence <> ALL (floor_names);
    IF absent IS NOT NULL THEN
        problem := format('cluster %s has not reported what it knows; start a process of it, or name it with --without',
                          array_to_string(absent, ', '));
    ELSIF unknown IS NOT NULL THEN
        problem := format('nobody knows what was granted of %s: say --at-least SEQUENCE=N for each, N at or above every ID that was ever given out',
                          unknown);
    END IF;
    RETURN QUERY SELECT problem, t.* FROM blockhouse.targets(floor_names, floors) AS t;
    IF problem IS NULL AND NOT dry THEN
        PERFORM blockhouse.open_at(array_agg(t.sequence), array_agg(t.target), 'accepted')
           FROM blockhouse.targets(floor_names, floors) AS t;
    END IF;
END $$;
