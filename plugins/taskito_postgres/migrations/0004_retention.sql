-- For how long finished jobs and the like are kept that have no time of their own: see Retention. NULL: for ever.
-- A store that holds jobs was made when they were kept for ever: nothing of it goes before somebody says so.
-- One row. Durations are seconds.
CREATE TABLE retention (
    finished  DOUBLE PRECISION,
    dead      DOUBLE PRECISION,
    logs      DOUBLE PRECISION,
    metrics   DOUBLE PRECISION,
    announced BOOLEAN NOT NULL DEFAULT false   -- a worker has said in its log what holds
);
INSERT INTO retention (finished, dead, logs, metrics)
SELECT CASE WHEN used THEN NULL ELSE 604800 END, CASE WHEN used THEN NULL ELSE 2592000 END,
       CASE WHEN used THEN NULL ELSE 2592000 END, 604800
  FROM (SELECT EXISTS (SELECT 1 FROM jobs) AS used) AS store;

-- The time of its own goes into the index, so that jobs which have one are passed over without reading them.
DROP INDEX jobs_done_completed;
CREATE INDEX jobs_done_completed ON jobs_done (completed_at, status, prune_at);
-- Jobs without a time of their own were written down as to be deleted in 30,000 years.
UPDATE jobs_done SET prune_at = NULL WHERE result_ttl IS NULL AND prune_at IS NOT NULL;
