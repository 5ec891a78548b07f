-- What jobs need to wait for each other, for places and for people: additive, code of 0001 goes on working.

ALTER TABLE jobs ADD COLUMN places INTEGER;                       -- how many jobs of concurrency_key may have one
ALTER TABLE jobs ADD COLUMN followed INTEGER;                     -- 1: a job waits for the end of this one
ALTER TABLE jobs ADD COLUMN cancel_force INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job_dependencies ADD COLUMN tolerant INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task_logs ADD COLUMN id TEXT;                         -- made by whoever wrote the line
ALTER TABLE replay_history ADD COLUMN status_before TEXT;

-- As it was, with expires_at: a claim asks for it, and would else read every row twice.
DROP INDEX jobs_claim;
CREATE INDEX jobs_claim ON jobs (queue, lane, priority DESC, scheduled_at, id, status, gate, expires_at)
  WHERE status = 'pending' AND gate IS NULL;
-- Nothing has ever asked for it, and every settle paid for it.
DROP INDEX jobs_keyed;
-- Due jobs of a key that wait for a place, best first; and those whose time has not come.
CREATE INDEX jobs_at_key ON jobs (concurrency_key, priority DESC, scheduled_at, id) WHERE gate = 'key';
CREATE INDEX jobs_later ON jobs (scheduled_at, concurrency_key) WHERE gate = 'later';
CREATE INDEX jobs_later_of_key ON jobs (concurrency_key, scheduled_at) WHERE gate = 'later';
-- Two more outboxes, like jobs_awaited: finished jobs that others still wait for, or that still hold a place.
-- Whoever writes next goes on from there, also for those that ended in a transaction of the task's own, or by
-- code of 0001.
CREATE INDEX jobs_followed ON jobs (id) WHERE followed IS NOT NULL AND completed_at IS NOT NULL;
CREATE INDEX jobs_vacated ON jobs (concurrency_key) WHERE slot IS NOT NULL AND completed_at IS NOT NULL;
CREATE UNIQUE INDEX task_logs_id ON task_logs (id) WHERE id IS NOT NULL;
CREATE INDEX task_logs_time ON task_logs (logged_at);
