-- What cancelling, dependencies, concurrency keys, expiry and logs need. Everything is added: what version
-- 0001 reads and writes keeps its meaning, so workers of both may run side by side.

ALTER TABLE jobs ADD COLUMN concurrency BIGINT;                       -- how many places its key has
ALTER TABLE jobs ADD COLUMN tolerant BOOLEAN NOT NULL DEFAULT false;  -- runs also if parents did not complete
ALTER TABLE jobs ADD COLUMN cancel_force BOOLEAN;                     -- NULL: while running, nobody asked to cancel

-- A place belongs to a job from the moment it can be claimed, not only while it runs.
DROP INDEX jobs_live_slot;
CREATE UNIQUE INDEX jobs_live_slot ON jobs_live (concurrency_key, slot) WHERE slot IS NOT NULL;
CREATE INDEX jobs_live_places ON jobs_live (concurrency_key, priority DESC, scheduled_at, id) WHERE gate = 'key';
CREATE INDEX jobs_live_later ON jobs_live (concurrency_key, scheduled_at) WHERE gate = 'later';
CREATE INDEX jobs_live_later_due ON jobs_live (scheduled_at) WHERE gate = 'later';
CREATE INDEX jobs_live_children ON jobs_live (gate, id) WHERE gate = 'parents';
CREATE INDEX jobs_live_expires ON jobs_live (expires_at) WHERE status = 'pending' AND expires_at IS NOT NULL;

-- A dead job can be repeated from its letter alone.
ALTER TABLE dead_letter ADD COLUMN lane TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letter ADD COLUMN unique_key TEXT;
ALTER TABLE dead_letter ADD COLUMN concurrency_key TEXT;
ALTER TABLE dead_letter ADD COLUMN concurrency BIGINT;
ALTER TABLE dead_letter ADD COLUMN expires_at BIGINT;

ALTER TABLE task_logs ADD COLUMN token BIGINT NOT NULL DEFAULT 0;
CREATE INDEX task_logs_task ON task_logs (task_name, id);

CREATE TABLE paused_queues (
    queue     TEXT   NOT NULL,
    paused_at BIGINT NOT NULL,
    CONSTRAINT paused_queues_pkey PRIMARY KEY (queue)
);
