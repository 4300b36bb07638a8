-- What a ledger file lacks if it was made before its gaps and generations.

ALTER TABLE ledger ADD COLUMN on_failover TEXT NOT NULL DEFAULT 'wait' CHECK (on_failover IN ('wait', 'jump'));
ALTER TABLE sequences ADD COLUMN issued INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sequences ADD COLUMN slot INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sequences ADD COLUMN starts TEXT NOT NULL DEFAULT '[0,0,0,0,0,0,0,0,0,0,0,0,0]';

CREATE TABLE IF NOT EXISTS seen (
  cluster  TEXT    PRIMARY KEY,
  seen     TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

DROP TRIGGER IF EXISTS sequences_move_forward;
CREATE TRIGGER sequences_move_forward BEFORE UPDATE ON sequences
WHEN NEW.granted < OLD.granted OR NEW.grants < OLD.grants OR NEW.generation < OLD.generation
  OR NEW.issued < OLD.issued OR NEW.slot < OLD.slot
  OR NEW.retired < OLD.retired OR NEW.first <> OLD.first OR NEW.name <> OLD.name
BEGIN
  SELECT RAISE(ABORT, 'a sequence moves forward only (S4)');
END;
