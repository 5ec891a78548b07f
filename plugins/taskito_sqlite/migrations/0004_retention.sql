-- For how long finished jobs and the like are kept that have no time of their own: see Retention. NULL: for ever.
-- A store that holds jobs was made when they were kept for ever: nothing of it goes before somebody says so.
-- One row. Durations are seconds.
CREATE TABLE retention (
  finished  REAL,
  dead      REAL,
  logs      REAL,
  metrics   REAL,
  announced INTEGER NOT NULL DEFAULT 0            -- 1: a worker has said in its log what holds
);
INSERT INTO retention (finished, dead, logs, metrics)
SELECT CASE WHEN used THEN NULL ELSE 604800 END, CASE WHEN used THEN NULL ELSE 2592000 END,
       CASE WHEN used THEN NULL ELSE 2592000 END, 604800
  FROM (SELECT EXISTS (SELECT 1 FROM jobs) AS used);

-- The time of its own goes into the index, so that jobs which have one are passed over without reading them.
DROP INDEX jobs_finished;
CREATE INDEX jobs_finished ON jobs (status, created_at, id, queue, completed_at, prune_at)
  WHERE completed_at IS NOT NULL;
CREATE INDEX task_logs_time ON task_logs (logged_at);
