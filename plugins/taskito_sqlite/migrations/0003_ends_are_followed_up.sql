-- Two more outboxes, like jobs_awaited: finished jobs that others still wait for, or that still hold a place.
-- Whoever writes next goes on from there, also for those that ended in a transaction of the task's own, or by
-- older code.
ALTER TABLE jobs ADD COLUMN followed INTEGER;                     -- 1: a job waits for the end of this one
UPDATE jobs SET followed = 1 WHERE id IN (
  SELECT edge.parent_id FROM job_dependencies AS edge JOIN jobs AS child ON child.id = edge.job_id
   WHERE child.gate = 'parents' AND child.completed_at IS NULL);
CREATE INDEX jobs_followed ON jobs (id) WHERE followed IS NOT NULL AND completed_at IS NOT NULL;
CREATE INDEX jobs_vacated ON jobs (concurrency_key) WHERE slot IS NOT NULL AND completed_at IS NOT NULL;
CREATE INDEX jobs_later_of_key ON jobs (concurrency_key, scheduled_at) WHERE gate = 'later';

-- As it was, with expires_at: a claim asks for it, and would else read every row twice.
DROP INDEX jobs_claim;
CREATE INDEX jobs_claim ON jobs (queue, lane, priority DESC, scheduled_at, id, status, gate, expires_at)
  WHERE status = 'pending' AND gate IS NULL;
-- Nothing asks for these any more, and every settle paid for them.
DROP INDEX jobs_keyed;
DROP INDEX jobs_cancel;
