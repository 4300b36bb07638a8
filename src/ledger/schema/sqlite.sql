-- The ledger in SQLite, schema 1. Carried out once by `blockhouse ledger migrate`, in one transaction.

-- Marks the file as a ledger ('blkh'): migrate never touches another program's file.
PRAGMA application_id = 1651272552;

CREATE TABLE ledger (
  only_row          INTEGER PRIMARY KEY CHECK (only_row = 1),
  schema_version    INTEGER NOT NULL,
  readable_from     INTEGER NOT NULL,  -- the oldest schema whose release can still use this one
  id                TEXT    NOT NULL,
  environment       TEXT    NOT NULL,
  state             TEXT    NOT NULL CHECK (state IN ('open', 'closed')),
  closed_reason     TEXT,
  epoch             INTEGER NOT NULL CHECK (epoch >= 1),
  token             TEXT    NOT NULL,
  catalogue_version INTEGER NOT NULL,
  on_failover       TEXT    NOT NULL DEFAULT 'wait' CHECK (on_failover IN ('wait', 'jump'))
) STRICT;

-- Every (epoch, token) that led to the present one, itself included.
CREATE TABLE lives (
  epoch  INTEGER PRIMARY KEY,
  token  TEXT    NOT NULL,
  reason TEXT    NOT NULL,
  at_us  INTEGER NOT NULL
) STRICT;

CREATE TABLE sequences (
  name           TEXT    PRIMARY KEY,
  generation     INTEGER NOT NULL CHECK (generation >= 1),
  first          INTEGER NOT NULL CHECK (first >= 1),
  last           INTEGER NOT NULL CHECK (last >= first),
  block_size     INTEGER NOT NULL CHECK (block_size >= 1),
  buffer_seconds INTEGER,
  failover_gap   INTEGER NOT NULL CHECK (failover_gap >= 0),
  halted         TEXT,                 -- why tier 3 is stopped
  retired        INTEGER NOT NULL CHECK (retired IN (0, 1)),
  -- The last granted ID and not the next, which doesn't fit at the end of 64 bits.
  granted        INTEGER NOT NULL CHECK (granted >= first - 1 AND granted <= last),
  grants         INTEGER NOT NULL CHECK (grants >= 0),
  -- The last hour, as the hourly cap goes by it; starts is an array in JSON.
  issued         INTEGER NOT NULL DEFAULT 0,
  slot           INTEGER NOT NULL DEFAULT 0,
  starts         TEXT    NOT NULL DEFAULT '[0,0,0,0,0,0,0,0,0,0,0,0,0]'
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
  sequence   TEXT    NOT NULL REFERENCES sequences (name),
  first      INTEGER NOT NULL,
  count      INTEGER NOT NULL CHECK (count >= 1),
  number     INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  epoch      INTEGER NOT NULL,
  at_us      INTEGER NOT NULL,
  purpose    TEXT    NOT NULL,
  holder     TEXT    NOT NULL,
  cluster    TEXT    NOT NULL,
  pod        TEXT,
  PRIMARY KEY (sequence, first)
) STRICT, WITHOUT ROWID;

CREATE INDEX grants_by_age ON grants (at_us);

CREATE TABLE clusters (
  cluster  TEXT    PRIMARY KEY,
  leader   TEXT    NOT NULL,
  until_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who of a cluster has which catalogue, as its leader says: a JSON array, of `block/witness.rs`.
CREATE TABLE seen (
  cluster  TEXT    PRIMARY KEY,
  seen     TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE demand (
  cluster  TEXT    NOT NULL,
  hour     INTEGER NOT NULL,           -- since 1970
  sequence TEXT    NOT NULL,
  ids      INTEGER NOT NULL,
  PRIMARY KEY (cluster, hour, sequence)
) STRICT, WITHOUT ROWID;

-- Every change of a sequence's facts raises the catalogue's version, also one made by hand.
CREATE TRIGGER sequences_created AFTER INSERT ON sequences
BEGIN
  UPDATE ledger SET catalogue_version = catalogue_version + 1;
END;

CREATE TRIGGER sequences_changed AFTER UPDATE ON sequences
WHEN (NEW.generation, NEW.last, NEW.block_size, NEW.buffer_seconds, NEW.failover_gap, NEW.halted, NEW.retired)
  IS NOT (OLD.generation, OLD.last, OLD.block_size, OLD.buffer_seconds, OLD.failover_gap, OLD.halted, OLD.retired)
BEGIN
  UPDATE ledger SET catalogue_version = catalogue_version + 1;
END;

-- S4, forward only, against hand-written SQL too. REPLACE deletes without asking the triggers for DELETE, so
-- inserting over a row is refused as well.
CREATE TRIGGER sequences_move_forward BEFORE UPDATE ON sequences
WHEN NEW.granted < OLD.granted OR NEW.grants < OLD.grants OR NEW.generation < OLD.generation
  OR NEW.issued < OLD.issued OR NEW.slot < OLD.slot
  OR NEW.retired < OLD.retired OR NEW.first <> OLD.first OR NEW.name <> OLD.name
BEGIN
  SELECT RAISE(ABORT, 'a sequence moves forward only (S4)');
END;

CREATE TRIGGER sequences_stay BEFORE DELETE ON sequences
BEGIN
  SELECT RAISE(ABORT, 'a sequence is never deleted (S4): retire it');
END;

CREATE TRIGGER sequences_are_not_replaced BEFORE INSERT ON sequences
WHEN EXISTS (SELECT 1 FROM sequences WHERE name = NEW.name)
BEGIN
  SELECT RAISE(ABORT, 'a sequence is never replaced (S4)');
END;

CREATE TRIGGER ledger_moves_forward BEFORE UPDATE ON ledger
WHEN NEW.epoch < OLD.epoch OR (NEW.epoch = OLD.epoch AND NEW.token <> OLD.token)
  OR NEW.catalogue_version < OLD.catalogue_version OR NEW.id <> OLD.id OR NEW.environment <> OLD.environment
BEGIN
  SELECT RAISE(ABORT, 'a ledger moves forward only (S4)');
END;

CREATE TRIGGER ledger_stays BEFORE DELETE ON ledger
BEGIN
  SELECT RAISE(ABORT, 'a ledger is never deleted (S4)');
END;

CREATE TRIGGER ledger_is_not_replaced BEFORE INSERT ON ledger
WHEN EXISTS (SELECT 1 FROM ledger)
BEGIN
  SELECT RAISE(ABORT, 'a ledger is never replaced (S4)');
END;

CREATE TRIGGER lives_do_not_change BEFORE UPDATE ON lives
BEGIN
  SELECT RAISE(ABORT, 'a life that led here is a fact (S3)');
END;

CREATE TRIGGER lives_stay BEFORE DELETE ON lives
BEGIN
  SELECT RAISE(ABORT, 'a life that led here is a fact (S3)');
END;

CREATE TRIGGER grants_do_not_change BEFORE UPDATE ON grants
BEGIN
  SELECT RAISE(ABORT, 'a grant that was made is a fact (S1)');
END;
