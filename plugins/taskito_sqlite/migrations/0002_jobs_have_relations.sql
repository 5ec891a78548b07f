-- What jobs need to wait for each other, for places and for people: additive, code of 0001 goes on working.

ALTER TABLE jobs ADD COLUMN places INTEGER;                       -- how many jobs of concurrency_key may have one
ALTER TABLE jobs ADD COLUMN cancel_force INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job_dependencies ADD COLUMN tolerant INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task_logs ADD COLUMN id TEXT;                         -- made by whoever wrote the line
ALTER TABLE replay_history ADD COLUMN status_before TEXT;

-- Due jobs of a key that wait for a place, best first; and those whose time has not come.
CREATE INDEX jobs_at_key ON jobs (concurrency_key, priority DESC, scheduled_at, id) WHERE gate = 'key';
CREATE INDEX jobs_later ON jobs (scheduled_at, concurrency_key) WHERE gate = 'later';
-- Running jobs that were asked to cancel.
CREATE INDEX jobs_cancel ON jobs (worker) WHERE cancel_at IS NOT NULL AND completed_at IS NULL;
CREATE UNIQUE INDEX task_logs_id ON task_logs (id) WHERE id IS NOT NULL;
CREATE INDEX task_logs_time ON task_logs (logged_at);
