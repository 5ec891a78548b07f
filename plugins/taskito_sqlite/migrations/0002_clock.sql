-- What a clock that is set back must be known by: how far it was, and which waits were counted by it. A moment
-- that was named stays as it is, one that was counted from the clock is counted again.
ALTER TABLE jobs ADD COLUMN delayed_at INTEGER;    -- from when scheduled_at was counted; NULL: named, or at once
ALTER TABLE jobs ADD COLUMN expires_from INTEGER;  -- the same of expires_at
ALTER TABLE periodic_tasks ADD COLUMN fired TEXT NOT NULL DEFAULT '';  -- slots that fired, as the workers note them

-- One row.
CREATE TABLE clock (
  latest      INTEGER NOT NULL,  -- what the clock showed last, as far as a heartbeat has seen it
  set_back_at INTEGER,           -- when it was found to have been set back last, by the clock of then
  set_back_by INTEGER,           -- by how much
  unfinished  INTEGER NOT NULL DEFAULT 0  -- rows that were written ahead are still there
);
INSERT INTO clock (latest) VALUES (0);
