-- A new generation of a sequence: the next grant begins above `above`, and above everything granted before. Forward only (S4): a
-- counter that is there already stays where it is. Empty where nothing was changed.
--
-- Everyone who locks both rows locks the ledger's first, as the grant does. A grant that waits for the row meanwhile sees the
-- new generation when it is evaluated again, and raises nothing. Not in a closed ledger: the generation may be one that was lost
-- before, and is raised again when it opens.
CREATE OR REPLACE FUNCTION blockhouse.advance(asked_sequence text, above bigint) RETURNS SETOF blockhouse.sequences
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Whoever asked may rely on it once it is answered, as with a grant.
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    RETURN QUERY
    UPDATE blockhouse.sequences AS s
       SET granted = greatest(s.granted, above), generation = s.generation + 1
      FROM (SELECT state FROM blockhouse.ledger FOR NO KEY UPDATE) AS l
     WHERE s.name = asked_sequence AND l.state = 'open' AND NOT s.retired AND above <= s.last
    RETURNING s.*;
END $$;

-- Who of a cluster has which catalogue, as its leader says: a JSON array, of `block/witness.rs`.
CREATE TABLE IF NOT EXISTS blockhouse.seen (
    cluster text PRIMARY KEY,
    seen    text NOT NULL
);

-- Of a cluster's leader only. What every cluster has now seen may count.
CREATE OR REPLACE FUNCTION blockhouse.confirm(of_cluster text, by_holder text, has_seen text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO blockhouse.seen AS s (cluster, seen)
    SELECT c.name, has_seen FROM blockhouse.clusters AS c WHERE c.name = of_cluster AND c.leader = by_holder
    ON CONFLICT (cluster) DO UPDATE SET seen = excluded.seen;
    SELECT blockhouse.loosen();
$$;
